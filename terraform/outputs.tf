output "accounts" {
  description = "The service accounts' addresses, by what they are for."
  value = merge(
    { for name, account in google_service_account.account : name => account.email },
    { workspace = google_service_account.workspace[local.workspace_account].email },
  )
}

output "api_key" {
  description = "The first API key, of the tenant that runs the deployment."
  value       = local.secrets["api_key"]
  sensitive   = true
}

output "build_command" {
  description = "Builds the images; `terraform apply` runs it itself unless build_images is false."
  value       = local.build_command
}

output "domain_address" {
  description = "With a domain: the IPv4 address that its A record must hold; the certificate comes after that."
  value       = one(google_compute_global_address.domain[*].address)
}

output "gke_next_command" {
  description = "With gke: lets the functions into the cluster. Run it once, as somebody who may grant rights there."
  value       = local.gke_next_command
}

output "next_command" {
  description = "Creates a session; run it in this folder."
  value       = <<-EOT
    curl -X POST "${local.url}/v1/sessions?wait=120" \
      -H "X-API-Key: $(terraform output -raw api_key)" -H "Content-Type: application/json" \
      -d '{"template": "python", "namespace": "demo", "user": "me"}'
  EOT
}

output "relay_url" {
  description = "Where WebSockets and the sessions' own HTTP go."
  value       = local.environment["ONMEMOS_RELAY_URL"]
}

output "url" {
  description = "The API's address."
  value       = local.url
}
