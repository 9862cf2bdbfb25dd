variable "allowed_origins" {
  description = "Web origins whose pages may call the API from a browser, such as https://console.example.com; [\"*\"]: any. None by default."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.allowed_origins : origin == "*" || can(regex("^https?://[a-z0-9.-]+(:[0-9]{1,5})?$", origin))])
    error_message = "allowed_origins: got ${jsonencode(var.allowed_origins)}, wanted \"*\" or origins as browsers send them: https://HOST or https://HOST:PORT, without a path."
  }
}

variable "build_images" {
  description = "Whether `terraform apply` builds the images with Cloud Build, which needs gcloud on this machine. Otherwise run the output build_command before."
  type        = bool
  default     = true
}

variable "closed_network" {
  description = "Lets sessions on Cloud Run ask for network: {egress: false}: {} makes a network with no way out but to Google's APIs. range: its subnetwork's; each session takes two addresses, or more."
  type        = object({ range = optional(string, "10.232.0.0/20") })
  default     = null

  validation {
    condition     = var.closed_network == null || try(cidrhost(var.closed_network.range, 0) == split("/", var.closed_network.range)[0] && tonumber(split("/", var.closed_network.range)[1]) <= 26, false)
    error_message = "closed_network: got range ${try(var.closed_network.range, "")}, wanted a range of at least /26, such as 10.232.0.0/20."
  }
}

variable "cloud_run_mode" {
  description = "What a new session on Cloud Run is: a \"service\", or an \"instance\" (in preview, a fifth of the price)."
  type        = string
  default     = "service"

  validation {
    condition     = contains(["service", "instance"], var.cloud_run_mode)
    error_message = "cloud_run_mode: got \"${var.cloud_run_mode}\", wanted \"service\" or \"instance\"."
  }
}

variable "database" {
  description = "The Firestore database that holds the sessions. The default one has a free quota; a project that uses it already needs another name here."
  type        = string
  default     = "(default)"

  validation {
    condition     = var.database == "(default)" || can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.database))
    error_message = "database: got \"${var.database}\", wanted \"(default)\" or 4 to 63 lowercase letters, digits and hyphens, beginning with a letter."
  }
}

variable "deletion_protection" {
  description = "Whether `terraform destroy` leaves the database and the secrets alone, and says so. Set it to false and apply before a teardown."
  type        = bool
  default     = true
}

variable "domain" {
  description = "The API's own host name, for WebSockets too: a load balancer with a certificate and rate limits. Its DNS must then hold the output domain_address. By default the gateway's and the relay's own addresses."
  type        = string
  default     = ""

  validation {
    condition     = var.domain == "" || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain))
    error_message = "domain: got \"${var.domain}\", wanted a host name such as api.example.com."
  }
}

variable "filestore" {
  description = "Lets sessions on Cloud Run mount Filestore shares: {} makes a network to put instances into. network: or one that has them, projects/P/global/networks/N. range: of the subnetwork that is made in it."
  type = object({
    network = optional(string, "")
    range   = optional(string, "10.233.0.0/20")
  })
  default = null

  validation {
    condition     = var.filestore == null || try(var.filestore.network == "" || can(regex("^projects/[^/]+/global/networks/[^/]+$", var.filestore.network)), false)
    error_message = "filestore: got network ${try(var.filestore.network, "")}, wanted projects/P/global/networks/N."
  }

  validation {
    condition     = var.filestore == null || try(cidrhost(var.filestore.range, 0) == split("/", var.filestore.range)[0] && tonumber(split("/", var.filestore.range)[1]) <= 26, false)
    error_message = "filestore: got range ${try(var.filestore.range, "")}, wanted a range of at least /26, such as 10.233.0.0/20."
  }
}

variable "firestore_location" {
  description = "Where the database is: a region, or nam5 or eur3 for several. It can never be changed. By default the region."
  type        = string
  default     = ""

  validation {
    condition     = var.firestore_location == "" || can(regex("^(nam[0-9]+|eur[0-9]+|[a-z]+-[a-z]+[0-9]+)$", var.firestore_location))
    error_message = "firestore_location: got \"${var.firestore_location}\", wanted a region such as europe-west1, nam5 or eur3."
  }
}

variable "former_instances" {
  description = "With cloud_run_mode = \"service\": whether instances from before are still there, to be found, stopped and deleted."
  type        = bool
  default     = false
}

variable "gateway_region" {
  description = "Where the API Gateway is; it is offered in some regions only. By default the region."
  type        = string
  default     = ""

  validation {
    condition     = var.gateway_region == "" || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.gateway_region))
    error_message = "gateway_region: got \"${var.gateway_region}\", wanted a region such as europe-west1."
  }
}

variable "gke" {
  description = "Sessions as Pods: {} makes an Autopilot cluster. cluster: or one that is there, projects/P/locations/L/clusters/C, of this project; the other settings are in docs/gke.md. agent_sandbox, range, release_channel: of the cluster that is made; Agent Sandbox wants Kubernetes 1.36.3."
  type = object({
    agent_sandbox   = optional(bool, true)
    buckets         = optional(bool, true)
    cluster         = optional(string, "")
    disk_gib        = optional(number, 10)
    range           = optional(string, "10.234.0.0/20")
    release_channel = optional(string, "REGULAR")
    runtime_class   = optional(string, "gvisor")
    service_account = optional(string, "")
    storage_class   = optional(string, "")
    warm_pool       = optional(string, "")
  })
  default = null

  validation {
    condition     = var.gke == null || try(var.gke.cluster == "" || can(regex("^projects/${var.project}/locations/[^/]+/clusters/[^/]+$", var.gke.cluster)), false)
    error_message = "gke: got cluster ${try(var.gke.cluster, "")}, wanted projects/${var.project}/locations/L/clusters/C."
  }

  validation {
    condition     = var.gke == null || try(var.gke.disk_gib >= 1 && floor(var.gke.disk_gib) == var.gke.disk_gib, false)
    error_message = "gke: got disk_gib ${try(var.gke.disk_gib, "")}, wanted a whole number above 0."
  }

  validation {
    condition     = var.gke == null || try(cidrhost(var.gke.range, 0) == split("/", var.gke.range)[0], false)
    error_message = "gke: got range ${try(var.gke.range, "")}, wanted one such as 10.234.0.0/20."
  }

  validation {
    condition     = var.gke == null || try(contains(["RAPID", "REGULAR", "STABLE"], var.gke.release_channel), false)
    error_message = "gke: got release_channel ${try(var.gke.release_channel, "")}, wanted RAPID, REGULAR or STABLE."
  }

  validation {
    condition     = var.gke == null || try(var.gke.warm_pool == "" || can(regex("^[^/]+/[^/]+$", var.gke.warm_pool)), false)
    error_message = "gke: got warm_pool ${try(var.gke.warm_pool, "")}, wanted NAMESPACE/POOL."
  }
}

variable "image_tag" {
  description = "The tag of the sessions' images and of the control plane's. By default a digest of what they are built from."
  type        = string
  default     = ""

  validation {
    condition     = var.image_tag == "" || can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag))
    error_message = "image_tag: got \"${var.image_tag}\", wanted a tag: at most 128 letters, digits, '.', '_' and '-'."
  }
}

variable "labels" {
  description = "Labels of every resource that Terraform makes here."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels: got ${jsonencode(var.labels)}, wanted keys and values of at most 63 lowercase letters, digits, '_' and '-', keys beginning with a letter."
  }
}

variable "max_instances" {
  description = "How many instances each function, and the relay, may have at most: what bounds the bill."
  type        = number
  default     = 100

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000 && floor(var.max_instances) == var.max_instances
    error_message = "max_instances: got ${var.max_instances}, wanted a whole number from 1 to 1000."
  }
}

variable "min_instances" {
  description = "How many instances of a function are kept warm, by the function's name: {create_session = 1, execute_session = 1}. By default nothing runs when nobody calls."
  type        = map(number)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.min_instances), keys(local.routes))) == 0
    error_message = "min_instances: got ${join(", ", keys(var.min_instances))}, wanted names of functions: ${join(", ", keys(local.routes))}."
  }

  validation {
    condition     = alltrue([for count in values(var.min_instances) : count >= 0 && count <= var.max_instances && floor(count) == count])
    error_message = "min_instances: got ${jsonencode(var.min_instances)}, wanted whole numbers from 0 to max_instances, which is ${var.max_instances}."
  }
}

variable "name" {
  description = "What the names of all resources begin with. A project holds one deployment: the names of sessions' own resources do not differ between two."
  type        = string
  default     = "onmemos"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name)) # accounts add ten characters, and may have 30
    error_message = "name: got \"${var.name}\", wanted 2 to 20 lowercase letters, digits and hyphens, beginning with a letter and ending with none."
  }
}

variable "notification_email" {
  description = "Where alerts go. By default nobody is told."
  type        = string
  default     = ""

  validation {
    condition     = var.notification_email == "" || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.notification_email))
    error_message = "notification_email: got \"${var.notification_email}\", wanted an e-mail address."
  }
}

variable "project" {
  description = "The id of the Google Cloud project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: got \"${var.project}\", wanted a project's id, not its name or number: 6 to 30 lowercase letters, digits and hyphens."
  }
}

variable "rate_limits" {
  description = "With a domain: how many requests a minute one API key may make, and one address that sends none; of the API and of the relay each."
  type = object({
    per_ip  = optional(number, 1200)
    per_key = optional(number, 6000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for limit in values(var.rate_limits) : limit >= 1 && limit <= 1000000 && floor(limit) == limit])
    error_message = "rate_limits: got ${jsonencode(var.rate_limits)}, wanted whole numbers from 1 to 1000000."
  }
}

variable "reconcile_schedule" {
  description = "When what crashes left behind is put right: cron, in UTC."
  type        = string
  default     = "*/15 * * * *"

  validation {
    condition     = length(split(" ", var.reconcile_schedule)) == 5
    error_message = "reconcile_schedule: got \"${var.reconcile_schedule}\", wanted five fields of cron, such as \"*/15 * * * *\"."
  }
}

variable "region" {
  description = "Where everything runs, sessions too."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: got \"${var.region}\", wanted a region such as europe-west1, not a zone."
  }
}

variable "templates" {
  description = "The deployment's own templates as YAML, {templates: {NAME: {description, image, resources, env, requires}}}: file(\"templates.yaml\"). Those that come with it need none."
  type        = string
  default     = ""

  validation {
    condition     = var.templates == "" || can(keys(yamldecode(var.templates).templates))
    error_message = "templates: got ${jsonencode(substr(var.templates, 0, 60))}, wanted YAML with a mapping `templates` at its top."
  }

  validation {
    condition     = length(var.templates) <= 65536 # Secret Manager, through which the functions get it
    error_message = "templates: got ${length(var.templates)} characters, wanted at most 65536."
  }
}

variable "tenants" {
  description = "Tenants whose sessions get a service account each, so that none can open another's bucket. Without any, all sessions share one account; with some, only these tenants, and the operators' own (\"default\"), can have sessions."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for tenant in var.tenants : can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", tenant)) && length("${var.name}-ws-${tenant}") <= 30])
    error_message = "tenants: got ${jsonencode(var.tenants)}, wanted lowercase letters, digits and hyphens, at most ${30 - length("${var.name}-ws-")} each: ${var.name}-ws-TENANT is the name of an account, which has at most 30."
  }
}

variable "workstations" {
  description = "Sessions as Cloud Workstations: {} makes a cluster, and a config for each template. machine_type: bounds what a session may have. pool_size: machines that wait for sessions of each template. agent: the images' command. A stop by idle_timeout_s or running_timeout_s keeps the disk."
  type = object({
    agent             = optional(list(string), ["/opt/onmemos/bin/agent"])
    disk_gib          = optional(number, 10)
    idle_timeout_s    = optional(number, 1200)
    machine_type      = optional(string, "e2-standard-2")
    pool_size         = optional(number, 0)
    range             = optional(string, "10.235.0.0/20")
    running_timeout_s = optional(number, 43200)
  })
  default = null

  validation {
    condition     = var.workstations == null || can(regex("^(e2|n2|n2d)-(standard|highmem|highcpu)-[0-9]+$", var.workstations.machine_type))
    error_message = "workstations: got machine_type ${try(var.workstations.machine_type, "")}, wanted one such as e2-standard-4: of e2, n2 or n2d, and standard, highmem or highcpu."
  }

  validation {
    condition     = var.workstations == null || try(contains([10, 50, 100, 200, 500, 1000], var.workstations.disk_gib), false)
    error_message = "workstations: got disk_gib ${try(var.workstations.disk_gib, "")}, wanted 10, 50, 100, 200, 500 or 1000."
  }

  validation {
    condition     = var.workstations == null || try(cidrhost(var.workstations.range, 0) == split("/", var.workstations.range)[0], false)
    error_message = "workstations: got range ${try(var.workstations.range, "")}, wanted one such as 10.235.0.0/20."
  }

  validation {
    condition     = var.workstations == null || try(var.workstations.idle_timeout_s >= 300 && var.workstations.running_timeout_s >= var.workstations.idle_timeout_s, false)
    error_message = "workstations: got idle_timeout_s ${try(var.workstations.idle_timeout_s, "")} and running_timeout_s ${try(var.workstations.running_timeout_s, "")}, wanted at least 300, and the second not below the first."
  }

  validation {
    condition     = var.workstations == null || try(var.workstations.pool_size >= 0 && floor(var.workstations.pool_size) == var.workstations.pool_size, false)
    error_message = "workstations: got pool_size ${try(var.workstations.pool_size, "")}, wanted a whole number from 0."
  }
}
