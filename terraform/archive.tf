data "archive_file" "source" {
  type             = "zip"
  output_path      = "${path.module}/build/source.zip"
  output_file_mode = "0644" # a checkout's umask is not a change

  dynamic "source" {
    for_each = local.source_files
    content {
      filename = source.value
      content  = file("${local.source_root}/${source.value}")
    }
  }
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "source-${substr(local.source_digest, 0, 16)}.zip"
  source = data.archive_file.source.output_path

  lifecycle {
    create_before_destroy = true # functions are built from the one before until they are built from this one
  }
}
