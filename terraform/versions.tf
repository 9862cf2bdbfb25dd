terraform {
  required_version = ">= 1.9" # conditions of variables may name other variables

  required_providers {
    archive = {
      source  = "hashicorp/archive"
      version = "~> 2.8"
    }
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
    google-beta = { # API Gateway and service agents are in no other
      source  = "hashicorp/google-beta"
      version = "~> 8.7"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.9"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.14"
    }
  }

  # The state holds the ticket key and the first API key. Keep it in a bucket with versions that only those who deploy
  # can read, not on a laptop:
  #
  #   gcloud storage buckets create gs://MY-PROJECT-terraform --location=REGION \
  #     --uniform-bucket-level-access --public-access-prevention
  #   gcloud storage buckets update gs://MY-PROJECT-terraform --versioning
  #
  # and say so in a file backend.tf beside this one, then `terraform init`:
  #
  #   terraform {
  #     backend "gcs" {
  #       bucket = "MY-PROJECT-terraform"
  #       prefix = "onmemos"
  #     }
  #   }
}

provider "google" {
  project        = var.project
  region         = var.region
  default_labels = var.labels
}

provider "google-beta" {
  project        = var.project
  region         = var.region
  default_labels = var.labels
}
