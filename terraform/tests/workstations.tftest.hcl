# Sessions as Cloud Workstations.

mock_provider "google" {
  source = "./tests/mocks/google"
}
mock_provider "google-beta" {
  source = "./tests/mocks/beta"
}
mock_provider "archive" {}
mock_provider "random" {}
mock_provider "time" {}

variables {
  project      = "my-project"
  region       = "europe-west1"
  build_images = false
}

run "each_template_has_a_config_and_the_programs_find_it" {
  variables {
    workstations = { machine_type = "n2-highmem-4", idle_timeout_s = 600 }
    templates    = "templates: {ml: {description: PyTorch, image: 'europe-docker.pkg.dev/my-project/onmemos/ml:1'}}"
    image_tag    = "v3"
  }

  assert {
    condition = { for name, value in local.environment : name => value if startswith(name, "ONMEMOS_WORKSTATIONS_") } == {
      ONMEMOS_WORKSTATIONS_CLUSTER    = "projects/my-project/locations/europe-west1/workstationClusters/onmemos"
      ONMEMOS_WORKSTATIONS_CONFIG     = "onmemos-{template}"
      ONMEMOS_WORKSTATIONS_CPU        = "4"
      ONMEMOS_WORKSTATIONS_MEMORY_GIB = "32"
    }
    error_message = "The programs are told something else than what is there."
  }

  assert {
    condition     = alltrue([for name, _ in local.environment : strcontains(file("../shared/config.py"), "\"${name}\"")])
    error_message = "shared/config.py does not read a setting."
  }

  assert {
    condition     = toset(keys(google_workstations_workstation_config.template)) == toset(concat(flatten(regexall("(?m)^    Template\\(\\s*\"([a-z]+)\"", file("../shared/templates.py"))), ["ml"]))
    error_message = "A template has no config: ${join(", ", keys(google_workstations_workstation_config.template))}."
  }

  assert {
    condition     = alltrue([for template, config in google_workstations_workstation_config.template : config.workstation_config_id == replace(local.environment.ONMEMOS_WORKSTATIONS_CONFIG, "{template}", template)])
    error_message = "A config has another name than the one it is looked for by."
  }

  assert {
    condition = (
      google_workstations_workstation_config.template["python"].container[0].image == "europe-west1-docker.pkg.dev/my-project/onmemos/python:v3" &&
      google_workstations_workstation_config.template["ml"].container[0].image == "europe-docker.pkg.dev/my-project/onmemos/ml:1"
    )
    error_message = "A config starts another image than its template's."
  }

  assert {
    condition = alltrue([
      for config in google_workstations_workstation_config.template : (
        config.idle_timeout == "600s" && config.running_timeout == "43200s" &&
        config.host[0].gce_instance[0].machine_type == "n2-highmem-4" &&
        config.host[0].gce_instance[0].disable_public_ip_addresses &&
        config.host[0].gce_instance[0].service_account == google_service_account.workstations[0].email &&
        config.persistent_directories[0].mount_path == "/workspace" &&
        config.persistent_directories[0].gce_pd[0].reclaim_policy == "DELETE"
      )
    ])
    error_message = "A config is not what is set, or its machines run as somebody else, are open to the internet, or lose or leave their disks."
  }

  assert {
    condition     = alltrue([for config in google_workstations_workstation_config.template : config.container[0].args == tolist(["/opt/onmemos/bin/agent"]) && strcontains(config.container[0].command[2], "setpriv --reuid=1000")])
    error_message = "The agent does not run as the images' user."
  }

  assert {
    condition     = strcontains(file("../shared/providers/cloud_run_container.py"), "USER_ID = ${local.session_user} ")
    error_message = "The images have another user."
  }

  assert {
    condition = toset([for key, _ in google_workstations_workstation_config_iam_member.grant : trimprefix(key, "python/") if startswith(key, "python/")]) == toset([
      "functions/enter_workstations", "steps/enter_workstations", "steps/workstations",
    ])
    error_message = "Somebody may do something else with the configs' workstations."
  }

  assert {
    condition = length(setintersection(
      toset(flatten([for key, _ in local.project_grants : local.roles[split("/", key)[1]].permissions])),
      toset(concat(local.roles.enter_workstations.permissions, local.roles.workstations.permissions)),
    )) == 0
    error_message = "The workstations of people, which are none of ours, are open to the programs."
  }
}
