# Sessions as Pods: a cluster of its own, since whoever may make Pods everywhere may become anything in it. docs/gke.md

locals {
  makes_cluster = var.gke != null && try(var.gke.cluster, "") == ""

  gke_cluster = (
    var.gke == null ? "" :
    local.makes_cluster ? "projects/${var.project}/locations/${var.region}/clusters/${one(google_container_cluster.sessions[*].name)}" :
    var.gke.cluster
  )

  apis_gke = var.gke == null ? [] : ["compute.googleapis.com", "container.googleapis.com"]

  environment_gke = var.gke == null ? {} : { for name, value in {
    ONMEMOS_GKE_BUCKETS         = tostring(var.gke.buckets)
    ONMEMOS_GKE_CLUSTER         = local.gke_cluster
    ONMEMOS_GKE_DISK_GIB        = tostring(var.gke.disk_gib)
    ONMEMOS_GKE_RUNTIME_CLASS   = var.gke.runtime_class
    ONMEMOS_GKE_SERVICE_ACCOUNT = var.gke.service_account
    ONMEMOS_GKE_STORAGE_CLASS   = var.gke.storage_class
    ONMEMOS_GKE_WARM_POOL       = var.gke.warm_pool
  } : name => value if value != "" }

  roles_gke = { for key, role in {
    reach_clusters = {
      title = "find the cluster, and get to its API server"
      permissions = [
        "container.clusters.connect", # by its DNS endpoint
        "container.clusters.get",
      ]
    }
  } : key => role if var.gke != null }

  # What they may do in the cluster is Kubernetes' own matter: gke_rights.
  project_grants_gke = { for key, grant in {
    "functions/reach_clusters" = { condition = null }
    "steps/reach_clusters"     = { condition = null }
  } : key => grant if var.gke != null }

  # The steps make Pods, and read no Secret. docs/gke.md tells the same.
  gke_rules = [
    { apiGroups = [""], resources = ["namespaces"], verbs = ["create"] },
    { apiGroups = [""], resources = ["pods"], verbs = ["create", "delete", "get", "list", "watch"] },
    { apiGroups = [""], resources = ["pods/proxy"], verbs = ["get", "create", "update", "patch", "delete"] },
    { apiGroups = [""], resources = ["secrets"], verbs = ["create", "update", "delete"] },
    { apiGroups = [""], resources = ["persistentvolumeclaims"], verbs = ["create", "delete", "get", "list", "watch"] },
    { apiGroups = [""], resources = ["serviceaccounts"], verbs = ["create", "get", "list", "watch"] },
    { apiGroups = [""], resources = ["events"], verbs = ["list", "watch"] },
    { apiGroups = ["networking.k8s.io"], resources = ["networkpolicies"], verbs = ["create", "update", "delete", "get", "list", "watch"] },
    { apiGroups = ["extensions.agents.x-k8s.io"], resources = ["sandboxclaims"], verbs = ["create", "delete", "get", "list", "watch"] },
    { apiGroups = ["extensions.agents.x-k8s.io"], resources = ["sandboxwarmpools", "sandboxtemplates"], verbs = ["get", "list"] },
    { apiGroups = ["agents.x-k8s.io"], resources = ["sandboxes"], verbs = ["get", "list"] },
  ]

  # The public functions and the relay only pass on to agents, and look whether a session's Pod still is there.
  gke_rules_of_functions = [
    { apiGroups = [""], resources = ["pods"], verbs = ["get", "list"] },
    { apiGroups = [""], resources = ["pods/proxy"], verbs = ["get", "create", "update", "patch", "delete"] },
    { apiGroups = [""], resources = ["persistentvolumeclaims"], verbs = ["list"] },
    { apiGroups = ["extensions.agents.x-k8s.io"], resources = ["sandboxclaims"], verbs = ["get", "list"] },
    { apiGroups = ["agents.x-k8s.io"], resources = ["sandboxes"], verbs = ["get", "list"] },
  ]

  gke_rights = flatten([
    for account, rules in { functions = local.gke_rules_of_functions, steps = local.gke_rules } : [
      {
        apiVersion = "rbac.authorization.k8s.io/v1"
        kind       = "ClusterRole"
        metadata   = { name = "${var.name}-${account}" }
        rules      = rules
      },
      {
        apiVersion = "rbac.authorization.k8s.io/v1"
        kind       = "ClusterRoleBinding"
        metadata   = { name = "${var.name}-${account}" }
        roleRef    = { apiGroup = "rbac.authorization.k8s.io", kind = "ClusterRole", name = "${var.name}-${account}" }
        # GKE knows an account by its number where a token does not tell its address.
        subjects = [
          for user in [google_service_account.account[account].email, google_service_account.account[account].unique_id] :
          { apiGroup = "rbac.authorization.k8s.io", kind = "User", name = user }
        ]
      },
    ]
  ])

  gke_next_command = var.gke == null ? null : join("\n", [
    "gcloud container clusters get-credentials ${split("/", local.gke_cluster)[5]} --location=${split("/", local.gke_cluster)[3]} --project=${var.project} --dns-endpoint",
    "kubectl apply -f - <<'RIGHTS'",
    "${join("---\n", [for object in local.gke_rights : yamlencode(object)])}RIGHTS",
  ])
}

resource "google_compute_network" "gke" {
  count                   = local.makes_cluster ? 1 : 0
  name                    = "${var.name}-gke"
  auto_create_subnetworks = false

  depends_on = [time_sleep.apis]
}

resource "google_compute_subnetwork" "gke" {
  count                    = local.makes_cluster ? 1 : 0
  name                     = "${var.name}-gke"
  region                   = var.region
  network                  = google_compute_network.gke[0].id
  ip_cidr_range            = var.gke.range
  private_ip_google_access = true
}

# What nodes run as: logs, metrics and images, instead of Compute Engine's own account, which may be the project's editor.
resource "google_service_account" "nodes" {
  count        = local.makes_cluster ? 1 : 0
  account_id   = "${var.name}-nodes"
  display_name = "OnMemOS: nodes of the cluster"

  depends_on = [time_sleep.apis]
}

resource "google_project_iam_member" "nodes" {
  count   = local.makes_cluster ? 1 : 0
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes[0].member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  count      = local.makes_cluster ? 1 : 0
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes[0].member
}

# Autopilot: Dataplane V2, which enforces the sessions' NetworkPolicies, Workload Identity and GKE Sandbox come with it.
resource "google_container_cluster" "sessions" {
  count               = local.makes_cluster ? 1 : 0
  name                = "${var.name}-sessions"
  location            = var.region
  description         = "OnMemOS: sessions as Pods"
  enable_autopilot    = true
  deletion_protection = var.deletion_protection
  network             = google_compute_network.gke[0].id
  subnetwork          = google_compute_subnetwork.gke[0].id

  ip_allocation_policy {}

  release_channel {
    channel = var.gke.release_channel
  }

  # The API server has no address of its own: every way in asks IAM first.
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
    ip_endpoints_config {
      enabled = false
    }
  }

  cluster_autoscaling {
    auto_provisioning_defaults {
      service_account = google_service_account.nodes[0].email
      oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    }
  }

  addons_config {
    gcs_fuse_csi_driver_config {
      enabled = true
    }
    agent_sandbox_config {
      enabled = var.gke.agent_sandbox
    }
  }

  depends_on = [google_artifact_registry_repository_iam_member.nodes, google_project_iam_member.nodes]
}

# Pods mount their session's bucket as themselves. The sessions' own code cannot: it has no token, and its way to the
# metadata server is closed.
resource "google_project_iam_member" "gke_buckets" {
  count   = var.gke != null && try(var.gke.buckets, false) ? 1 : 0
  project = var.project
  role    = "roles/storage.objectUser"
  member = join("", [
    "principalSet://iam.googleapis.com/projects/${google_storage_bucket.source.project_number}/locations/global/workloadIdentityPools/",
    "${var.project}.svc.id.goog/kubernetes.cluster/https://container.googleapis.com/v1/${local.gke_cluster}",
  ])

  condition {
    title      = local.conditions.session_buckets.title
    expression = local.conditions.session_buckets.expression
  }

  depends_on = [google_container_cluster.sessions] # the project's identity pool comes with its first cluster
}
