# What runs in the cloud, said once: the functions, the relay and the job are built from these files and from no others.

locals {
  source_root = "${path.module}/.."

  source_patterns = [
    "main.py",
    "requirements.txt",
    "constraints.txt",
    "functions/**/*.py",
    "shared/**/*.py",
    "infra/__init__.py",
    "infra/reconcile.py",
    "infra/cloudbuild.yaml",
    "infra/control/**",
    "infra/workspace/**",
  ]

  source_files = sort([
    for path in setunion([for pattern in local.source_patterns : fileset(local.source_root, pattern)]...) : path
    if !strcontains(path, "__pycache__/")
  ])

  # Of names and contents: the same on every machine, and known before anything is zipped.
  source_digest = sha256(join("\n", [for path in local.source_files : "${filesha256("${local.source_root}/${path}")} ${path}"]))

  # The sessions' images change with the agent, not with the control plane.
  workspace_digest = sha256(join("\n", [
    for path in local.source_files : "${filesha256("${local.source_root}/${path}")} ${path}"
    if startswith(path, "infra/workspace/")
  ]))
}
