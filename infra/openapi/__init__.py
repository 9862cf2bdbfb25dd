"""What the route table says, written down for others: the OpenAPI document, Terraform's maps, and docs/api.md."""
