locals {
  firestore = jsondecode(file("${path.module}/../firestore.indexes.json"))

  firestore_indexes = {
    for index in local.firestore.indexes :
    join("/", concat([index.collectionGroup], [
      for field in index.fields : "${field.fieldPath}:${lower(try(field.order, field.arrayConfig))}"
    ])) => index
  }
  firestore_fields = { for field in local.firestore.fieldOverrides : "${field.collectionGroup}/${field.fieldPath}" => field }
}

resource "google_firestore_database" "database" {
  name                              = var.database
  location_id                       = coalesce(var.firestore_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED" # seven days back
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "PREVENT" : "DELETE"

  depends_on = [time_sleep.apis]
}

resource "google_firestore_index" "index" {
  for_each    = local.firestore_indexes
  database    = google_firestore_database.database.name
  collection  = each.value.collectionGroup
  query_scope = try(each.value.queryScope, "COLLECTION")

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.fieldPath
      order        = try(fields.value.order, null)
      array_config = try(fields.value.arrayConfig, null)
    }
  }
}

# TTL, and fields whose own indexes nobody asks: they would cost a write each.
resource "google_firestore_field" "field" {
  for_each   = local.firestore_fields
  database   = google_firestore_database.database.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath

  dynamic "ttl_config" {
    for_each = try(each.value.ttl, false) ? [true] : []
    content {}
  }

  dynamic "index_config" {
    for_each = can(each.value.indexes) ? [each.value.indexes] : []
    content {
      dynamic "indexes" {
        for_each = index_config.value
        content {
          order        = try(indexes.value.order, null)
          array_config = try(indexes.value.arrayConfig, null)
          query_scope  = try(indexes.value.queryScope, "COLLECTION")
        }
      }
    }
  }
}
