"""Settings fail at start, naming the variable, what it holds and what is wanted."""

from pathlib import Path

import pytest

from shared.config import ConfigError, Settings
from shared.names import function_url

GOOD = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "ONMEMOS_LOCATION": "us-central1",
    "ONMEMOS_IMAGE": "registry/workspace-{template}:1",
    "ONMEMOS_FUNCTION_URL": "https://{function}.example",
    "ONMEMOS_TICKET_KEY": "pem",
    "ONMEMOS_TASK_ACCOUNT": "tasks@p.iam.gserviceaccount.com",
}


def test_the_cloud_needs_no_more_than_this() -> None:
    settings = Settings.from_environment(GOOD)
    assert settings.queue == "onmemos-{step}"
    assert settings.firestore_database == "(default)"
    assert settings.run_host == ""


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.from_environment({key: value for key, value in GOOD.items() if key != name})


def test_where_firebase_runs_the_functions_the_project_has_another_name() -> None:
    environment = {name: value for name, value in GOOD.items() if name != "GOOGLE_CLOUD_PROJECT"}
    assert Settings.from_environment({**environment, "GCLOUD_PROJECT": "theirs"}).project == "theirs"
    assert Settings.from_environment({**GOOD, "GCLOUD_PROJECT": "theirs"}).project == "p"


def test_a_pattern_without_its_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ONMEMOS_IMAGE: got 'registry/x', wanted text that holds \{template\}"):
        Settings.from_environment({**GOOD, "ONMEMOS_IMAGE": "registry/x"})


def test_a_functions_address_may_hold_its_name_with_dashes() -> None:
    settings = Settings.from_environment({**GOOD, "ONMEMOS_FUNCTION_URL": "https://r.example/onmemos-{service}"})
    assert function_url(settings.function_url, "create_session") == "https://r.example/onmemos-create-session"
    assert function_url("https://r.example/{function}", "create_session") == "https://r.example/create_session"
    with pytest.raises(ConfigError, match=r"ONMEMOS_FUNCTION_URL: got 'x', wanted text that holds \{function\} or"):
        Settings.from_environment({**GOOD, "ONMEMOS_FUNCTION_URL": "x"})


def test_origins_are_none_all_or_a_list() -> None:
    def origins(text: str) -> tuple[str, ...]:
        return Settings.from_environment({**GOOD, "ONMEMOS_ALLOWED_ORIGINS": text}).allowed_origins

    assert Settings.from_environment(GOOD).allowed_origins == ()
    assert origins("*") == ("*",)
    assert origins("https://a.example, http://localhost:3000") == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize("text", ["a.example", "https://a.example/", "https://A.example", "https://a.example,ftp://b"])
def test_an_origin_that_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ONMEMOS_ALLOWED_ORIGINS: got"):
        Settings.from_environment({**GOOD, "ONMEMOS_ALLOWED_ORIGINS": text})


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file")
    env = {key: value for key, value in GOOD.items() if key != "ONMEMOS_TICKET_KEY"}
    settings = Settings.from_environment({**env, "ONMEMOS_TICKET_KEY_FILE": str(tmp_path / "key")})
    assert settings.ticket_key == "from the file"
    with pytest.raises(ConfigError, match="ONMEMOS_TICKET_KEY_FILE: cannot read"):
        Settings.from_environment({**env, "ONMEMOS_TICKET_KEY_FILE": str(tmp_path / "none")})


def test_the_deployments_first_key_is_a_setting_a_file_or_not_there(tmp_path: Path) -> None:
    """A file is how Secret Manager mounts one; its last line may have an end."""
    (tmp_path / "key").write_text("from the file\n")
    assert Settings.from_environment({**GOOD, "ONMEMOS_API_KEY": "plain"}).bootstrap_key == "plain"
    file = str(tmp_path / "key")
    assert Settings.from_environment({**GOOD, "ONMEMOS_API_KEY_FILE": file}).bootstrap_key == "from the file"
    assert Settings.from_environment(GOOD).bootstrap_key == ""


@pytest.mark.parametrize("text", ['{"go": "go isn\'t here"}', "%7B%22go%22%3A%22go%20isn%27t%20here%22%7D"])
def test_reasons_may_be_percent_encoded_for_files_that_know_no_quotes(text: str) -> None:
    settings = Settings.from_environment({**GOOD, "ONMEMOS_UNAVAILABLE_TEMPLATES": text})
    assert settings.unavailable_templates == {"go": "go isn't here"}


@pytest.mark.parametrize("text", ["go", "[]", '{"go": 1}'])
def test_reasons_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ONMEMOS_UNAVAILABLE_TEMPLATES: got"):
        Settings.from_environment({**GOOD, "ONMEMOS_UNAVAILABLE_TEMPLATES": text})


def test_without_their_clusters_there_is_neither_gke_nor_workstations() -> None:
    settings = Settings.from_environment(GOOD)
    assert (settings.gke_kubeconfig, settings.gke_cluster, settings.workstations_cluster) == ("", "", "")
    assert settings.cloud_run_mode == "service"


def test_the_other_providers_have_settings_of_their_own() -> None:
    settings = Settings.from_environment(
        {
            **GOOD,
            "CLOUD_RUN_MODE": "instance",
            "ONMEMOS_GKE_CLUSTER": "projects/p/locations/us-central1/clusters/c",
            "ONMEMOS_GKE_POD_NETWORK": "True",
            "ONMEMOS_GKE_BUCKETS": "false",
            "ONMEMOS_GKE_DISK_GIB": "50",
            "ONMEMOS_GKE_WARM_POOL": "onmemos-warm/{template}",
            "ONMEMOS_WORKSTATIONS_CLUSTER": "projects/p/locations/us-central1/workstationClusters/c",
            "ONMEMOS_WORKSTATIONS_CPU": "8",
        }
    )
    assert settings.cloud_run_mode == "instance"
    assert (settings.gke_pod_network, settings.gke_buckets, settings.gke_disk_gib) == (True, False, 50)
    assert settings.workstations_config == "onmemos-{template}"
    assert settings.workstations_cpu == 8


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("CLOUD_RUN_MODE", "job", "wanted service or instance"),
        ("ONMEMOS_GKE_CLUSTER", "my-cluster", "wanted projects/P/locations/L/clusters/C"),
        ("ONMEMOS_GKE_POD_NETWORK", "yes", "wanted true or false"),
        ("ONMEMOS_GKE_DISK_GIB", "0", "wanted a whole number above 0"),
        ("ONMEMOS_GKE_WARM_POOL", "pool", "wanted namespace/pool"),
        ("ONMEMOS_WORKSTATIONS_CLUSTER", "clusters/c", "wanted projects/P/locations/L/workstationClusters/C"),
        ("ONMEMOS_WORKSTATIONS_URL", "https://workstation", "wanted text that holds {host}"),
    ],
)
def test_a_providers_setting_that_is_none_is_refused(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: got '{value}', {wanted}"):
        Settings.from_environment({**GOOD, name: value})


def test_an_emulator_of_cloud_tasks_that_is_named_for_us_goes_before_firebases_own() -> None:
    firebase = {**GOOD, "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:9499"}
    assert Settings.from_environment(firebase).tasks_host == "127.0.0.1:9499"
    assert (
        Settings.from_environment({**firebase, "ONMEMOS_TASKS_EMULATOR_HOST": "127.0.0.1:1"}).tasks_host
        == "127.0.0.1:1"
    )
