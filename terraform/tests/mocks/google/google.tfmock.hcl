# What the cloud would say, where a test reads it.

mock_resource "google_storage_bucket" {
  defaults = { project_number = 123456789 }
}

mock_resource "google_secret_manager_secret_version" {
  defaults = { version = "7" }
}

override_resource {
  target = google_service_account.account["functions"]
  values = {
    email  = "onmemos-functions@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-functions@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-functions@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["jobs"]
  values = {
    email  = "onmemos-jobs@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-jobs@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-jobs@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["steps"]
  values = {
    email  = "onmemos-steps@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-steps@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-steps@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["gateway"]
  values = {
    email  = "onmemos-gateway@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-gateway@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-gateway@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["tasks"]
  values = {
    email  = "onmemos-tasks@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-tasks@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-tasks@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["scheduler"]
  values = {
    email  = "onmemos-scheduler@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-scheduler@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-scheduler@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.account["build"]
  values = {
    email  = "onmemos-build@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-build@my-project.iam.gserviceaccount.com"
    id     = "projects/my-project/serviceAccounts/onmemos-build@my-project.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.workspace["onmemos-workspace"]
  values = {
    email  = "onmemos-workspace@my-project.iam.gserviceaccount.com"
    member = "serviceAccount:onmemos-workspace@my-project.iam.gserviceaccount.com"
  }
}
