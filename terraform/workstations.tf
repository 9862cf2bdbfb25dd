# Sessions as Cloud Workstations: a virtual machine each, whose disk at /workspace outlives its stops.

locals {
  has_workstations = var.workstations != null

  # shared/templates.py's own, and the deployment's. The config says the image, so each template has one.
  workstation_images = !local.has_workstations ? {} : merge(
    { for template in ["base", "go", "nodejs", "python"] : template => "${local.registry}/${template}:${local.image_tag}" },
    { for template, one in try(yamldecode(var.templates).templates, {}) : template => try(one.image, "${local.registry}/${template}:${local.image_tag}") },
  )

  # cloud.google.com/compute/docs/general-purpose-machines: GiB for each vCPU, which these families have in common
  workstation_machine = local.has_workstations ? regex("^(?P<family>[a-z0-9]+)-(?P<kind>[a-z]+)-(?P<cpu>[0-9]+)$", var.workstations.machine_type) : null
  workstation_cpu     = local.has_workstations ? tonumber(local.workstation_machine.cpu) : 0
  workstation_gib     = local.has_workstations ? local.workstation_cpu * { standard = 4, highmem = 8, highcpu = 1 }[local.workstation_machine.kind] : 0

  apis_workstations = local.has_workstations ? ["compute.googleapis.com", "workstations.googleapis.com"] : []

  environment_workstations = local.has_workstations ? {
    ONMEMOS_WORKSTATIONS_CLUSTER    = "projects/${var.project}/locations/${var.region}/workstationClusters/${google_workstations_workstation_cluster.sessions[0].workstation_cluster_id}"
    ONMEMOS_WORKSTATIONS_CONFIG     = "${var.name}-{template}"
    ONMEMOS_WORKSTATIONS_CPU        = tostring(local.workstation_cpu)
    ONMEMOS_WORKSTATIONS_MEMORY_GIB = tostring(local.workstation_gib)
  } : {}

  roles_workstations = { for key, role in {
    find_workstations = {
      title       = "which configs sessions may be in"
      permissions = ["workstations.workstationConfigs.list"]
    }
    sweep_workstations = {
      title = "find workstations whose session is gone"
      permissions = [
        "workstations.operations.get", # wait until they run, or are gone
        "workstations.workstations.list",
      ]
    }
    enter_workstations = {
      title = "reach the agents of workstations"
      permissions = [
        "workstations.workstations.get",
        "workstations.workstations.use", # access tokens of one
      ]
    }
    workstations = {
      title = "make, start, stop and delete sessions on workstations"
      permissions = [
        "workstations.workstationConfigs.get",
        "workstations.workstations.create",
        "workstations.workstations.delete",
        "workstations.workstations.start",
        "workstations.workstations.stop",
        "workstations.workstations.update", # other variables of a session that resumes
      ]
    }
  } : key => role if local.has_workstations }

  project_grants_workstations = { for key, grant in {
    "functions/find_workstations" = { condition = null }
    "steps/find_workstations"     = { condition = null }
    "steps/sweep_workstations"    = { condition = null }
  } : key => grant if local.has_workstations }

  # In these configs only: a project may have workstations of people, too.
  workstation_grants = merge([
    for template, _ in local.workstation_images : {
      "${template}/functions/enter_workstations" = { template = template, account = "functions", role = "enter_workstations" }
      "${template}/steps/enter_workstations"     = { template = template, account = "steps", role = "enter_workstations" }
      "${template}/steps/workstations"           = { template = template, account = "steps", role = "workstations" }
    }
  ]...)

  # A new disk is root's, and the agent is not: it is given to the images' user before that user's agent starts.
  hand_over = "chown ${local.session_user}:${local.session_user} /workspace && exec setpriv --reuid=${local.session_user} --regid=${local.session_user} --clear-groups -- \"$@\""

  session_user = 1000 # of the images: shared/providers/cloud_run_container.py
}

resource "google_compute_network" "workstations" {
  count                   = local.has_workstations ? 1 : 0
  name                    = "${var.name}-workstations"
  auto_create_subnetworks = false

  depends_on = [time_sleep.apis]
}

resource "google_compute_subnetwork" "workstations" {
  count                    = local.has_workstations ? 1 : 0
  name                     = "${var.name}-workstations"
  region                   = var.region
  network                  = google_compute_network.workstations[0].id
  ip_cidr_range            = var.workstations.range
  private_ip_google_access = true # images, without addresses of their own
}

resource "google_compute_router" "workstations" {
  count   = local.has_workstations ? 1 : 0
  name    = "${var.name}-workstations"
  region  = var.region
  network = google_compute_network.workstations[0].id
}

# The way to the internet; nothing comes in by it.
resource "google_compute_router_nat" "workstations" {
  count                              = local.has_workstations ? 1 : 0
  name                               = "${var.name}-workstations"
  region                             = var.region
  router                             = google_compute_router.workstations[0].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}

# What the machines run as, and with it whoever has a session: it reads the sessions' images, and can do nothing else.
resource "google_service_account" "workstations" {
  count        = local.has_workstations ? 1 : 0
  account_id   = "${var.name}-machines"
  display_name = "OnMemOS: sessions on workstations"
  description  = "Give it no role of the project: whoever has a session has it too."

  depends_on = [time_sleep.apis]
}

resource "google_artifact_registry_repository_iam_member" "workstations" {
  count      = local.has_workstations ? 1 : 0
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.workstations[0].member
}

resource "google_workstations_workstation_cluster" "sessions" {
  count                  = local.has_workstations ? 1 : 0
  workstation_cluster_id = var.name
  location               = var.region
  display_name           = "OnMemOS"
  network                = google_compute_network.workstations[0].id
  subnetwork             = google_compute_subnetwork.workstations[0].id

  depends_on = [google_compute_router_nat.workstations]
}

resource "google_workstations_workstation_config" "template" {
  for_each               = local.workstation_images
  workstation_cluster_id = google_workstations_workstation_cluster.sessions[0].workstation_cluster_id
  workstation_config_id  = "${var.name}-${each.key}"
  location               = var.region
  display_name           = "OnMemOS: ${each.key}"
  idle_timeout           = "${var.workstations.idle_timeout_s}s"
  running_timeout        = "${var.workstations.running_timeout_s}s"

  host {
    gce_instance {
      machine_type                = var.workstations.machine_type
      service_account             = google_service_account.workstations[0].email
      pool_size                   = var.workstations.pool_size
      boot_disk_size_gb           = 30
      disable_public_ip_addresses = true

      shielded_instance_config {
        enable_secure_boot          = true
        enable_vtpm                 = true
        enable_integrity_monitoring = true
      }
    }
  }

  container {
    image       = each.value
    command     = ["/bin/sh", "-c", local.hand_over, "sh"]
    args        = var.workstations.agent
    run_as_user = 0 # for as long as the hand-over takes
    working_dir = "/workspace"
  }

  persistent_directories {
    mount_path = "/workspace"
    gce_pd {
      size_gb        = var.workstations.disk_gib
      fs_type        = "ext4"
      disk_type      = "pd-balanced"
      reclaim_policy = "DELETE" # with its session
    }
  }

  depends_on = [google_artifact_registry_repository_iam_member.workstations, terraform_data.images]
}

resource "google_workstations_workstation_config_iam_member" "grant" {
  for_each               = local.workstation_grants
  location               = var.region
  workstation_cluster_id = google_workstations_workstation_cluster.sessions[0].workstation_cluster_id
  workstation_config_id  = google_workstations_workstation_config.template[each.value.template].workstation_config_id
  role                   = google_project_iam_custom_role.role[each.value.role].id
  member                 = google_service_account.account[each.value.account].member
}
