locals {
  accounts = {
    functions = "OnMemOS: public functions and the relay"
    jobs      = "OnMemOS: public functions for jobs, which run on Cloud Run"
    steps     = "OnMemOS: steps and reconcile, which make and delete workspaces"
    gateway   = "OnMemOS: API Gateway, the only caller of public functions"
    tasks     = "OnMemOS: Cloud Tasks, the only caller of steps"
    scheduler = "OnMemOS: starts reconcile"
    build     = "OnMemOS: builds functions and images"
  }

  operators_tenant = "default" # shared/keys.py: the first API key's

  workspace_account = "${var.name}-workspace"
  tenant_accounts = {
    for tenant in(length(var.tenants) > 0 ? setunion(var.tenants, [local.operators_tenant]) : []) :
    tenant => "${var.name}-ws-${tenant}"
  }
}

resource "google_service_account" "account" {
  for_each     = local.accounts
  account_id   = "${var.name}-${each.key}"
  display_name = each.value

  depends_on = [time_sleep.apis]
}

# What sessions and jobs run as. It may do nothing in the project; the control plane lets it into the session's own
# bucket. It stays when tenants get accounts of their own: sessions from before still run as it.
resource "google_service_account" "workspace" {
  for_each     = toset(concat([local.workspace_account], values(local.tenant_accounts)))
  account_id   = each.value
  display_name = "OnMemOS: sessions"
  description  = "Give it no role of the project: whoever has a session has it too."

  depends_on = [time_sleep.apis]
}

# Cloud Tasks' own account, which signs as `tasks`. It has the right by default, and keeps it if someone takes that away.
resource "google_project_service_identity" "cloud_tasks" {
  provider = google-beta
  service  = "cloudtasks.googleapis.com"

  depends_on = [time_sleep.apis]
}
