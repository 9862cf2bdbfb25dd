# Sessions without a way out, and those with a share.

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

run "closed_sessions_reach_their_bucket_and_nothing_else" {
  variables {
    closed_network = {}
  }

  assert {
    condition     = local.environment.ONMEMOS_CLOSED_SUBNETWORK == "projects/my-project/regions/europe-west1/subnetworks/onmemos-closed" && !can(local.environment.ONMEMOS_FILESTORE_SUBNETWORK)
    error_message = "The programs do not know the subnetwork."
  }

  assert {
    condition     = alltrue([for name, _ in local.environment : strcontains(file("../shared/config.py"), "\"${name}\"")])
    error_message = "shared/config.py does not read a setting."
  }

  assert {
    condition     = google_compute_network.closed[0].delete_default_routes_on_create && google_compute_route.google_apis[0].dest_range == "199.36.153.8/30"
    error_message = "The network knows a way to the internet, or none to Google's APIs."
  }

  assert {
    condition     = google_compute_subnetwork.closed[0].private_ip_google_access && google_compute_subnetwork.closed[0].ip_cidr_range == "10.232.0.0/20"
    error_message = "Buckets cannot be mounted."
  }

  assert {
    condition = (
      google_compute_firewall.closed_denies[0].direction == "EGRESS" &&
      one([for one in google_compute_firewall.closed_denies[0].deny : one.protocol]) == "all" &&
      google_compute_firewall.closed_denies[0].destination_ranges == toset(["0.0.0.0/0"]) &&
      google_compute_firewall.closed_allows[0].priority < google_compute_firewall.closed_denies[0].priority &&
      google_compute_firewall.closed_allows[0].destination_ranges == toset(["199.36.153.8/30"])
    )
    error_message = "Something goes out."
  }

  assert {
    condition = (
      google_dns_managed_zone.nothing[0].dns_name == "." &&
      toset(google_dns_record_set.google_apis[0].rrdatas) == toset(["199.36.153.8", "199.36.153.9", "199.36.153.10", "199.36.153.11"]) &&
      google_dns_record_set.any_google_api[0].name == "*.googleapis.com."
    )
    error_message = "Names lead out, or storage.googleapis.com does not lead to Google's private addresses."
  }

  assert {
    condition     = toset(keys(google_compute_subnetwork_iam_member.grant)) == toset(["closed/jobs", "closed/steps"])
    error_message = "Others than those who start sessions and jobs may use the subnetwork."
  }
}

run "sessions_with_a_share_reach_it_and_nothing_beside_it" {
  command = plan

  variables {
    filestore = { network = "projects/my-project/global/networks/office", range = "10.9.0.0/24" }
  }

  assert {
    condition     = local.environment.ONMEMOS_FILESTORE_SUBNETWORK == "projects/my-project/regions/europe-west1/subnetworks/onmemos-filestore" && !can(local.environment.ONMEMOS_CLOSED_SUBNETWORK)
    error_message = "The programs do not know the subnetwork."
  }

  assert {
    condition     = length(google_compute_network.filestore) == 0 && google_compute_subnetwork.filestore[0].network == "projects/my-project/global/networks/office"
    error_message = "The subnetwork is not where the shares are."
  }

  assert {
    condition = (
      google_compute_firewall.filestore_denies[0].source_ranges == toset(["10.9.0.0/24"]) &&
      google_compute_firewall.filestore_allows[0].source_ranges == toset(["10.9.0.0/24"]) &&
      google_compute_firewall.filestore_allows[0].priority < google_compute_firewall.filestore_denies[0].priority &&
      contains(one([for one in google_compute_firewall.filestore_allows[0].allow : one.ports]), "2049")
    )
    error_message = "Sessions reach what else is in the network, or others are kept from it, or shares are not reached."
  }
}

run "a_network_for_shares_is_made_where_there_is_none" {
  command = plan
  variables {
    filestore = {}
  }

  assert {
    condition     = length(google_compute_network.filestore) == 1
    error_message = "There is no network."
  }
}
