# What the programs log becomes metrics, and what somebody should know of becomes mail. shared/http.py logs a line for
# each request, the use cases one for each turn in a session's life.

locals {
  is_watched  = var.notification_email != ""
  apis_alerts = local.is_watched ? ["monitoring.googleapis.com"] : []

  # Named one by one: a session writes logs as well, and may write what it likes.
  services = { for access in ["api", "step"] : access => [
    for name, route in local.routes : local.function_names[name] if(route.access == "task") == (access == "step")
  ] }
  of_services = { for access, names in merge(local.services, { any = concat(local.services.api, local.services.step, [local.relay_name]) }) :
    access => "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in names : "\"${name}\""])})"
  }
  of_reconcile = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${var.name}-reconcile\""

  # Those that answer at once: the others last as long as what they wait for.
  quick = [for name, route in local.routes : name if route.access != "task" && route.timeout_s <= 60]

  turns = ["session running", "session suspended", "session moved", "session expired", "session gone", "session failed", "session not resumed", "session not moved"]

  metrics = {
    requests = {
      description = "Requests that the API answered. The relay's are not here: their answers are the sessions' own."
      filter      = "${local.of_services.api} AND jsonPayload.message=\"request served\""
      labels      = { function = "EXTRACT(jsonPayload.function)", status = "EXTRACT(jsonPayload.status)" }
      value       = null
    }
    latency = {
      description = "How long the API took to answer."
      filter      = "${local.of_services.api} AND jsonPayload.message=\"request served\""
      labels      = { function = "EXTRACT(jsonPayload.function)" }
      value       = "EXTRACT(jsonPayload.latency_ms)"
    }
    step_failures = {
      description = "Steps that failed and that Cloud Tasks tries again."
      filter      = "${local.of_services.step} AND jsonPayload.message=\"request served\" AND jsonPayload.status>=500"
      labels      = { function = "EXTRACT(jsonPayload.function)", status = "EXTRACT(jsonPayload.status)" }
      value       = null
    }
    bugs = {
      description = "Errors that nobody foresaw; their lines hold a stack trace."
      filter      = "${local.of_services.any} AND jsonPayload.message=(\"request failed\" OR \"connection failed\") AND severity=ERROR"
      labels      = { function = "EXTRACT(jsonPayload.function)" }
      value       = null
    }
    sessions = {
      description = "Turns in the lives of sessions."
      filter      = "${local.of_services.any} AND jsonPayload.message=(${join(" OR ", [for turn in local.turns : "\"${turn}\""])})"
      labels      = { turn = "EXTRACT(jsonPayload.message)" }
      value       = null
    }
    quota_errors = {
      description = "Sessions and jobs that the cloud had no room for."
      filter      = "${local.of_services.any} AND jsonPayload.error=~\"^(Cloud Run|Cloud Workstations|Kubernetes) refused the \""
      labels      = { turn = "EXTRACT(jsonPayload.message)" }
      value       = null
    }
    reconcile_failures = {
      description = "What reconcile could not put right."
      filter      = "${local.of_reconcile} AND jsonPayload.message=\"not put right\""
      labels      = { deed = "EXTRACT(jsonPayload.deed)" }
      value       = null
    }
    schedule_failures = {
      description = "Starts of reconcile that failed."
      filter      = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=\"${var.name}-reconcile\" AND severity>=ERROR"
      labels      = {}
      value       = null
    }
  }

  metric_types = { for key, _ in local.metrics : key => "logging.googleapis.com/user/${var.name}-${replace(key, "_", "-")}" }

  of_revisions = "resource.type = \"cloud_run_revision\""
  of_queues    = "resource.type = \"cloud_tasks_queue\" AND resource.labels.queue_id = one_of(${join(", ", [for step, _ in local.steps : "\"${var.name}-${step}\""])})"

  # An alert is where all of its conditions hold, or with OR any of them. over_s: what is summed up, or measured by a reducer; for_s: how long it
  # must last; denominator: what it is a share of.
  alerts = {
    errors = {
      title    = "the API answers with errors"
      severity = "ERROR"
      advice   = "More than a tenth of the API's answers are 5xx, and more than 20 in five minutes. Which function, and which status: the dashboard. 503 is a provider, Firestore or Cloud Tasks that does not answer; 500 is a bug, and has a stack trace."
      conditions = {
        "a tenth of the answers" = {
          filter      = "metric.type = \"${local.metric_types.requests}\" AND ${local.of_revisions} AND metric.labels.status = monitoring.regex.full_match(\"5..\")"
          denominator = "metric.type = \"${local.metric_types.requests}\" AND ${local.of_revisions}"
          threshold   = 0.1
          over_s      = 300
        }
        "more than 20" = {
          filter    = "metric.type = \"${local.metric_types.requests}\" AND ${local.of_revisions} AND metric.labels.status = monitoring.regex.full_match(\"5..\")"
          threshold = 20
          over_s    = 300
        }
      }
    }
    bugs = {
      title    = "something failed that nobody foresaw"
      severity = "ERROR"
      advice   = "A program answered 500 or closed a connection with 1011. The log has the stack trace: jsonPayload.message=(\"request failed\" OR \"connection failed\")."
      conditions = {
        "an error" = {
          filter    = "metric.type = \"${local.metric_types.bugs}\" AND ${local.of_revisions}"
          threshold = 0
          over_s    = 300
        }
      }
    }
    latency = {
      title    = "the API is slow"
      severity = "WARNING"
      advice   = "For a quarter of an hour, one of twenty answers took more than 3 s, of functions that wait for nothing. Cold starts: min_instances. No room for more instances: max_instances. Else Firestore."
      conditions = {
        "p95 above 3 s" = {
          filter    = "metric.type = \"${local.metric_types.latency}\" AND ${local.of_revisions} AND metric.labels.function = one_of(${join(", ", [for name in local.quick : "\"${name}\""])})"
          threshold = 3000
          over_s    = 300
          reducer   = "REDUCE_PERCENTILE_95"
          for_s     = 900
        }
      }
    }
    late_steps = {
      title    = "steps wait in their queue"
      severity = "ERROR"
      advice   = "For ten minutes, steps began more than a minute after they were due: sessions are not made, stopped or deleted in time. A queue that is paused or too slow, or step functions at max_instances."
      conditions = {
        "p95 above a minute" = {
          filter    = "metric.type = \"cloudtasks.googleapis.com/queue/task_attempt_delays\" AND ${local.of_queues}"
          threshold = 60000
          over_s    = 300
          reducer   = "REDUCE_PERCENTILE_95"
          for_s     = 600
        }
      }
    }
    stuck_steps = {
      title    = "steps keep failing"
      severity = "ERROR"
      advice   = "More than ten steps failed within a quarter of an hour; Cloud Tasks goes on trying. Which, and why: the logs of the step functions, jsonPayload.status>=500."
      conditions = {
        "more than 10" = {
          filter    = "metric.type = \"${local.metric_types.step_failures}\" AND ${local.of_revisions}"
          threshold = 10
          over_s    = 900
        }
      }
    }
    reconcile = {
      title    = "reconcile fails"
      severity = "ERROR"
      combiner = "OR"
      advice   = "What crashes left behind stays, and costs: a run of ${var.name}-reconcile failed, also when it was tried again, or left things for an hour, or was not started. Its log names them: jsonPayload.message=\"not put right\"; for the start, Cloud Scheduler's log."
      conditions = {
        "a run failed" = {
          filter    = "metric.type = \"run.googleapis.com/job/completed_execution_count\" AND resource.type = \"cloud_run_job\" AND resource.labels.job_name = \"${var.name}-reconcile\" AND metric.labels.result = \"failed\""
          threshold = 0
          over_s    = 300
        }
        "more than 3 left in an hour" = {
          filter    = "metric.type = \"${local.metric_types.reconcile_failures}\" AND resource.type = \"cloud_run_job\""
          threshold = 3
          over_s    = 3600
        }
        "not started" = {
          filter    = "metric.type = \"${local.metric_types.schedule_failures}\" AND resource.type = \"cloud_scheduler_job\""
          threshold = 0
          over_s    = 300
        }
      }
    }
    quota = {
      title    = "the cloud has no room for more sessions"
      severity = "WARNING"
      advice   = "A provider refused a session or a job for want of quota: console.cloud.google.com/iam-admin/quotas. Cloud Run has 1000 services in a region."
      conditions = {
        "a refusal" = {
          filter    = "metric.type = \"${local.metric_types.quota_errors}\" AND ${local.of_revisions}"
          threshold = 0
          over_s    = 300
        }
      }
    }
  }
}

resource "google_logging_metric" "metric" {
  for_each         = { for key, metric in local.metrics : key => metric if local.is_watched }
  name             = "${var.name}-${replace(each.key, "_", "-")}"
  description      = each.value.description
  filter           = each.value.filter
  label_extractors = each.value.labels
  value_extractor  = each.value.value

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = each.value.value == null ? "INT64" : "DISTRIBUTION"
    unit        = each.value.value == null ? "1" : "ms"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = each.value.value == null ? [] : ["ms"]
    content {
      exponential_buckets { # 1 ms to an hour, each bucket 1.3 times the one before
        num_finite_buckets = 58
        growth_factor      = 1.3
        scale              = 1
      }
    }
  }

  depends_on = [time_sleep.apis]
}

# An alert on a metric that is not known yet is refused.
resource "time_sleep" "metrics" {
  count           = local.is_watched ? 1 : 0
  create_duration = "90s"
  triggers        = { metrics = join(" ", sort([for metric in google_logging_metric.metric : metric.name])) }
}

resource "google_monitoring_notification_channel" "email" {
  count        = local.is_watched ? 1 : 0
  display_name = "OnMemOS"
  type         = "email"
  labels       = { email_address = var.notification_email }

  depends_on = [time_sleep.apis]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each              = { for key, alert in local.alerts : key => alert if local.is_watched }
  display_name          = "OnMemOS: ${each.value.title}"
  severity              = each.value.severity
  combiner              = try(each.value.combiner, "AND")
  notification_channels = google_monitoring_notification_channel.email[*].id

  documentation {
    content   = each.value.advice
    mime_type = "text/markdown"
  }

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.key

      condition_threshold {
        filter                  = conditions.value.filter
        denominator_filter      = try(conditions.value.denominator, null)
        comparison              = "COMPARISON_GT"
        threshold_value         = conditions.value.threshold
        duration                = "${try(conditions.value.for_s, 0)}s"
        evaluation_missing_data = can(conditions.value.for_s) ? "EVALUATION_MISSING_DATA_INACTIVE" : null

        aggregations {
          alignment_period     = "${conditions.value.over_s}s"
          per_series_aligner   = "ALIGN_DELTA"
          cross_series_reducer = try(conditions.value.reducer, "REDUCE_SUM")
        }

        dynamic "denominator_aggregations" {
          for_each = can(conditions.value.denominator) ? [true] : []
          content {
            alignment_period     = "${conditions.value.over_s}s"
            per_series_aligner   = "ALIGN_DELTA"
            cross_series_reducer = try(conditions.value.reducer, "REDUCE_SUM")
          }
        }
      }
    }
  }

  alert_strategy {
    auto_close = "3600s"
  }

  depends_on = [time_sleep.metrics]
}
