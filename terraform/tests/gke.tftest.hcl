# Sessions as Pods.

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

run "a_cluster_is_made_and_the_programs_find_it" {
  variables {
    gke = { warm_pool = "onmemos-warm/{template}", service_account = "sessions" }
  }

  assert {
    condition = { for name, value in local.environment : name => value if startswith(name, "ONMEMOS_GKE_") } == {
      ONMEMOS_GKE_BUCKETS         = "true"
      ONMEMOS_GKE_CLUSTER         = "projects/my-project/locations/europe-west1/clusters/onmemos-sessions"
      ONMEMOS_GKE_DISK_GIB        = "10"
      ONMEMOS_GKE_RUNTIME_CLASS   = "gvisor"
      ONMEMOS_GKE_SERVICE_ACCOUNT = "sessions"
      ONMEMOS_GKE_WARM_POOL       = "onmemos-warm/{template}"
    }
    error_message = "The programs are told something else than what is there."
  }

  assert {
    condition     = alltrue([for name, _ in local.environment : strcontains(file("../shared/config.py"), "\"${name}\"")])
    error_message = "shared/config.py does not read a setting."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].environment_variables.ONMEMOS_GKE_CLUSTER == local.gke_cluster])
    error_message = "A function does not know the cluster."
  }

  assert {
    condition = (
      google_container_cluster.sessions[0].enable_autopilot &&
      google_container_cluster.sessions[0].deletion_protection &&
      google_container_cluster.sessions[0].addons_config[0].gcs_fuse_csi_driver_config[0].enabled &&
      google_container_cluster.sessions[0].addons_config[0].agent_sandbox_config[0].enabled &&
      google_container_cluster.sessions[0].control_plane_endpoints_config[0].dns_endpoint_config[0].allow_external_traffic &&
      !google_container_cluster.sessions[0].control_plane_endpoints_config[0].ip_endpoints_config[0].enabled
    )
    error_message = "The cluster is not what docs/gke.md wants."
  }

  assert {
    condition     = google_container_cluster.sessions[0].cluster_autoscaling[0].auto_provisioning_defaults[0].service_account == google_service_account.nodes[0].email
    error_message = "Nodes run as Compute Engine's own account."
  }

  assert {
    condition     = toset([for key, _ in google_project_iam_member.grant : key if endswith(key, "/reach_clusters")]) == toset(["functions/reach_clusters", "steps/reach_clusters"])
    error_message = "Somebody gets to the API server who should not, or somebody does not."
  }

  assert {
    condition     = local.roles.reach_clusters.permissions == ["container.clusters.connect", "container.clusters.get"]
    error_message = "IAM lets the programs do in the cluster what only its own rules should."
  }

  assert {
    condition = (
      google_project_iam_member.gke_buckets[0].member == "principalSet://iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools/my-project.svc.id.goog/kubernetes.cluster/https://container.googleapis.com/v1/projects/my-project/locations/europe-west1/clusters/onmemos-sessions" &&
      google_project_iam_member.gke_buckets[0].condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/onmemos-\")"
    )
    error_message = "Pods cannot mount their buckets, or could mount others."
  }

  assert {
    condition = (
      jsonencode([for rule in local.gke_rules : { for key in ["apiGroups", "resources", "verbs"] : key => rule[key] }]) ==
      jsonencode(yamldecode(regex("(?s)kind: ClusterRole\nmetadata: \\{name: onmemos\\}\n(rules:.*?)\n---", file("../docs/gke.md"))[0]).rules)
    )
    error_message = "The rights in the cluster are not those of docs/gke.md."
  }

  assert {
    condition     = length([for rule in local.gke_rules_of_functions : rule if rule.resources != ["pods/proxy"] && length(setsubtract(rule.verbs, ["get", "list"])) > 0]) == 0
    error_message = "The public functions may change the cluster."
  }

  assert {
    condition = (
      strcontains(output.gke_next_command, "gcloud container clusters get-credentials onmemos-sessions --location=europe-west1 --project=my-project --dns-endpoint\n") &&
      strcontains(output.gke_next_command, "kubectl apply -f - <<'RIGHTS'\n") &&
      strcontains(output.gke_next_command, "\"onmemos-steps@my-project.iam.gserviceaccount.com\"") &&
      endswith(output.gke_next_command, "\nRIGHTS")
    )
    error_message = "The next command does not give the rights."
  }

  assert {
    condition     = [for object in local.gke_rights : "${object.kind} ${object.metadata.name}"] == ["ClusterRole onmemos-functions", "ClusterRoleBinding onmemos-functions", "ClusterRole onmemos-steps", "ClusterRoleBinding onmemos-steps"]
    error_message = "An object is missing."
  }

  assert {
    condition     = alltrue([for text in split("---\n", split("\nRIGHTS", split("<<'RIGHTS'\n", output.gke_next_command)[1])[0]) : can(yamldecode(text).metadata.name)])
    error_message = "What kubectl is given is no YAML."
  }
}

run "a_cluster_that_is_there_is_used" {
  command = plan

  variables {
    gke = { cluster = "projects/my-project/locations/europe-west4-a/clusters/shared", buckets = false, runtime_class = "" }
  }

  assert {
    condition     = length(google_container_cluster.sessions) + length(google_service_account.nodes) + length(google_compute_network.gke) + length(google_project_iam_member.gke_buckets) == 0
    error_message = "Something is made though there is a cluster, or Pods get rights on buckets that they do not mount."
  }

  assert {
    condition     = local.environment.ONMEMOS_GKE_CLUSTER == "projects/my-project/locations/europe-west4-a/clusters/shared" && local.environment.ONMEMOS_GKE_BUCKETS == "false" && !can(local.environment.ONMEMOS_GKE_RUNTIME_CLASS)
    error_message = "The programs are told something else."
  }

  assert {
    condition     = local.gke_cluster == "projects/my-project/locations/europe-west4-a/clusters/shared"
    error_message = "The rights go to another cluster."
  }
}
