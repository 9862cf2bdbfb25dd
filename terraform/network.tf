# Where sessions on Cloud Run are by Direct VPC egress: those without a way out in a network that has none, those with a
# Filestore share in one that leads to it and nowhere else.

locals {
  has_closed    = var.closed_network != null
  has_filestore = var.filestore != null
  makes_share   = local.has_filestore && try(var.filestore.network, "") == "" # a network for shares

  # Google's APIs without the internet: cloud.google.com/vpc/docs/configure-private-google-access#ip-addr-defaults
  google_apis_range = "199.36.153.8/30"
  google_apis       = [for host in range(4) : cidrhost(local.google_apis_range, host)]

  # cloud.google.com/filestore/docs/configuring-firewall
  filestore_ports = ["111", "2046", "2049", "2050", "4045"]

  filestore_network = local.makes_share ? one(google_compute_network.filestore[*].id) : try(var.filestore.network, "")

  apis_network = concat(
    local.has_closed || local.has_filestore ? ["compute.googleapis.com"] : [],
    local.has_closed ? ["dns.googleapis.com"] : [],
  )

  subnetworks = merge(
    { for one in google_compute_subnetwork.closed : "closed" => one.name },
    { for one in google_compute_subnetwork.filestore : "filestore" => one.name },
  )

  environment_network = {
    for purpose, name in local.subnetworks :
    "ONMEMOS_${upper(purpose)}_SUBNETWORK" => "projects/${var.project}/regions/${var.region}/subnetworks/${name}"
  }

  roles_network = { for key, role in {
    see_networks = {
      title       = "the network of a session's subnetwork"
      permissions = ["compute.networks.get"]
    }
    subnetworks = {
      title       = "put sessions into their subnetworks"
      permissions = ["compute.subnetworks.get", "compute.subnetworks.use"]
    }
  } : key => role if local.has_closed || local.has_filestore }

  project_grants_network = { for key, grant in {
    "jobs/see_networks"  = { condition = null }
    "steps/see_networks" = { condition = null }
  } : key => grant if local.has_closed || local.has_filestore }

  subnetwork_grants = merge(
    { for account in ["jobs", "steps"] : "closed/${account}" => { purpose = "closed", account = account } if local.has_closed },
    { for account in ["jobs", "steps"] : "filestore/${account}" => { purpose = "filestore", account = account } if local.has_filestore },
  )
}

resource "google_compute_network" "closed" {
  count                           = local.has_closed ? 1 : 0
  name                            = "${var.name}-closed"
  auto_create_subnetworks         = false
  delete_default_routes_on_create = true # the internet is not even known

  depends_on = [time_sleep.apis]
}

resource "google_compute_subnetwork" "closed" {
  count                    = local.has_closed ? 1 : 0
  name                     = "${var.name}-closed"
  region                   = var.region
  network                  = google_compute_network.closed[0].id
  ip_cidr_range            = var.closed_network.range
  private_ip_google_access = true # Cloud Run mounts the session's bucket by the session's network
}

resource "google_compute_route" "google_apis" {
  count            = local.has_closed ? 1 : 0
  name             = "${var.name}-closed-google-apis"
  network          = google_compute_network.closed[0].id
  dest_range       = local.google_apis_range
  next_hop_gateway = "default-internet-gateway" # its name: these addresses never leave Google's network
}

resource "google_compute_firewall" "closed_denies" {
  count              = local.has_closed ? 1 : 0
  name               = "${var.name}-closed-denies"
  network            = google_compute_network.closed[0].id
  direction          = "EGRESS"
  priority           = 65000
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }
}

# With credentials that somebody brings along, other people's buckets are reached by this too. What keeps them shut is
# a perimeter of the organization: cloud.google.com/vpc-service-controls.
resource "google_compute_firewall" "closed_allows" {
  count              = local.has_closed ? 1 : 0
  name               = "${var.name}-closed-allows"
  network            = google_compute_network.closed[0].id
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.google_apis_range]

  allow {
    protocol = "tcp"
    ports    = ["443"]
  }
}

# No name but Google's has an address there: questions for names would be a way out, too.
resource "google_dns_managed_zone" "nothing" {
  count       = local.has_closed ? 1 : 0
  name        = "${var.name}-closed-nothing"
  dns_name    = "."
  description = "OnMemOS: names that closed sessions do not learn"
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.closed[0].id
    }
  }
}

resource "google_dns_managed_zone" "google_apis" {
  count       = local.has_closed ? 1 : 0
  name        = "${var.name}-closed-google-apis"
  dns_name    = "googleapis.com."
  description = "OnMemOS: the way to buckets"
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.closed[0].id
    }
  }
}

resource "google_dns_record_set" "google_apis" {
  count        = local.has_closed ? 1 : 0
  managed_zone = google_dns_managed_zone.google_apis[0].name
  name         = "private.googleapis.com."
  type         = "A"
  ttl          = 300
  rrdatas      = local.google_apis
}

resource "google_dns_record_set" "any_google_api" {
  count        = local.has_closed ? 1 : 0
  managed_zone = google_dns_managed_zone.google_apis[0].name
  name         = "*.googleapis.com."
  type         = "CNAME"
  ttl          = 300
  rrdatas      = ["private.googleapis.com."]
}

resource "google_compute_network" "filestore" {
  count                   = local.makes_share ? 1 : 0
  name                    = "${var.name}-filestore"
  auto_create_subnetworks = false

  depends_on = [time_sleep.apis]
}

# Only what goes to private addresses comes by here; the internet is reached as ever.
resource "google_compute_subnetwork" "filestore" {
  count                    = local.has_filestore ? 1 : 0
  name                     = "${var.name}-filestore"
  region                   = var.region
  network                  = local.filestore_network
  ip_cidr_range            = var.filestore.range
  private_ip_google_access = true

  depends_on = [time_sleep.apis]
}

# Rules by source, for the network may hold much else: a session reaches shares there, and nothing besides.
resource "google_compute_firewall" "filestore_allows" {
  count              = local.has_filestore ? 1 : 0
  name               = "${var.name}-filestore-allows"
  network            = local.filestore_network
  direction          = "EGRESS"
  priority           = 900
  source_ranges      = [var.filestore.range]
  destination_ranges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]

  allow {
    protocol = "tcp"
    ports    = local.filestore_ports
  }

  depends_on = [google_compute_subnetwork.filestore]
}

resource "google_compute_firewall" "filestore_denies" {
  count              = local.has_filestore ? 1 : 0
  name               = "${var.name}-filestore-denies"
  network            = local.filestore_network
  direction          = "EGRESS"
  priority           = 901
  source_ranges      = [var.filestore.range]
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }

  depends_on = [google_compute_subnetwork.filestore]
}

resource "google_compute_subnetwork_iam_member" "grant" {
  for_each   = local.subnetwork_grants
  region     = var.region
  subnetwork = local.subnetworks[each.value.purpose]
  role       = google_project_iam_custom_role.role["subnetworks"].id
  member     = google_service_account.account[each.value.account].member
}
