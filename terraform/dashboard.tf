# What alerts.tf measures, and what the platform does, at one look.

locals {
  # Each a chart; `by`: a line for each of its values.
  charts = {
    "Requests a second, by status"   = { filter = "metric.type=\"${local.metric_types.requests}\" ${local.of_revisions}", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "metric.label.status" }
    "Requests a second, by function" = { filter = "metric.type=\"${local.metric_types.requests}\" ${local.of_revisions}", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "metric.label.function" }
    "p95 of answers, ms"             = { filter = "metric.type=\"${local.metric_types.latency}\" ${local.of_revisions}", aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95", by = "metric.label.function" }
    "Turns of sessions"              = { filter = "metric.type=\"${local.metric_types.sessions}\" ${local.of_revisions}", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = "metric.label.turn" }
    "Refused for want of quota"      = { filter = "metric.type=\"${local.metric_types.quota_errors}\" ${local.of_revisions}", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = "metric.label.turn" }
    "Unforeseen errors"              = { filter = "metric.type=\"${local.metric_types.bugs}\" ${local.of_revisions}", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = "metric.label.function" }
    "Steps that failed"              = { filter = "metric.type=\"${local.metric_types.step_failures}\" ${local.of_revisions}", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = "metric.label.function" }
    "Steps' delay, p95, ms"          = { filter = "metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\" ${local.of_queues}", aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95", by = "resource.label.queue_id" }
    "Tasks in queues"                = { filter = "metric.type=\"cloudtasks.googleapis.com/queue/depth\" ${local.of_queues}", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = "resource.label.queue_id" } # expiries wait there, too
    "Runs of reconcile"              = { filter = "metric.type=\"run.googleapis.com/job/completed_execution_count\" resource.type=\"cloud_run_job\" resource.label.job_name=\"${var.name}-reconcile\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = "metric.label.result" }
    "Instances, by service"          = { filter = "metric.type=\"run.googleapis.com/container/instance_count\" ${local.of_revisions}", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = "resource.label.service_name" }
    "Reads of documents a second"    = { filter = "metric.type=\"firestore.googleapis.com/document/read_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = "metric.label.type" }
  }

  dashboard_columns = 12
  dashboard_width   = 6
  dashboard_height  = 4

  dashboard = {
    displayName = "OnMemOS: ${var.name}"
    mosaicLayout = {
      columns = local.dashboard_columns
      tiles = [
        for index, title in keys(local.charts) : {
          xPos   = index * local.dashboard_width % local.dashboard_columns
          yPos   = floor(index * local.dashboard_width / local.dashboard_columns) * local.dashboard_height
          width  = local.dashboard_width
          height = local.dashboard_height
          widget = {
            title = title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = local.charts[title].filter
                    aggregation = {
                      alignmentPeriod    = "60s"
                      perSeriesAligner   = local.charts[title].aligner
                      crossSeriesReducer = local.charts[title].reducer
                      groupByFields      = [local.charts[title].by]
                    }
                  }
                }
              }]
            }
          }
        }
      ]
    }
  }
}

resource "google_monitoring_dashboard" "dashboard" {
  count          = local.is_watched ? 1 : 0
  dashboard_json = jsonencode(local.dashboard)

  depends_on = [time_sleep.metrics]
}
