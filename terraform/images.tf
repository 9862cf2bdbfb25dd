locals {
  registry      = "${var.region}-docker.pkg.dev/${var.project}/${var.name}"
  image_tag     = var.image_tag != "" ? var.image_tag : substr(local.workspace_digest, 0, 12)
  control_tag   = var.image_tag != "" ? var.image_tag : substr(local.source_digest, 0, 12)
  control_image = "${local.registry}/control:${local.control_tag}"

  # As the account that may write to the registry and nothing else; whoever runs it must be allowed to act as that.
  build_command = join(" ", [
    "gcloud builds submit gs://${google_storage_bucket.source.name}/${google_storage_bucket_object.source.name}",
    "--config=${local.source_root}/infra/cloudbuild.yaml",
    "--project=${var.project}",
    "--region=${var.region}",
    "--service-account=${google_service_account.account["build"].id}",
    "--substitutions=_REGISTRY=${local.registry},_TAG=${local.image_tag},_CONTROL_TAG=${local.control_tag}",
  ])
}

resource "terraform_data" "images" {
  count            = var.build_images ? 1 : 0
  triggers_replace = [local.registry, local.image_tag, local.control_tag]

  provisioner "local-exec" {
    command = local.build_command
  }

  depends_on = [
    google_artifact_registry_repository.images,
    google_artifact_registry_repository_iam_member.build,
    google_storage_bucket_iam_member.build,
    time_sleep.grants,
  ]
}
