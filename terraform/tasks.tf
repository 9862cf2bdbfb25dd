# A queue's name stays taken for days after it is deleted: cloud.google.com/tasks/docs/deleting-appengine-queues-and-tasks
resource "google_cloud_tasks_queue" "step" {
  for_each = local.steps
  name     = "${var.name}-${each.key}"
  location = var.region

  retry_config {
    max_attempts  = each.value.max_attempts
    min_backoff   = each.value.min_backoff
    max_backoff   = each.value.max_backoff
    max_doublings = each.value.max_doublings
  }

  depends_on = [time_sleep.apis]
}
