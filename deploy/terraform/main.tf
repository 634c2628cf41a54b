# Everything that rounds on Google Cloud need, and no right more: a bucket of stores, a repository of images, an account for
# workers and one for drivers.

resource "google_project_service" "needed" {
  for_each           = toset(["artifactregistry", "compute", "dataflow", "iam", "logging", "monitoring", "storage"])
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_storage_bucket" "stores" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # A deleted or replaced object can be had back for a while; stages never replace what they have committed.
  soft_delete_policy {
    retention_duration_seconds = 1209600
  }

  # Beam's scratch files, and graphs of launched templates.
  lifecycle_rule {
    condition {
      age            = 14
      matches_prefix = ["dataflow/"]
    }
    action {
      type = "Delete"
    }
  }

  # Uploads that were never finished.
  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "gnome"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of gnome-flywheel"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "worker" {
  account_id   = "gnome-worker"
  display_name = "Workers of gnome-flywheel"

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "driver" {
  account_id   = "gnome-driver"
  display_name = "Drivers of gnome-flywheel"

  depends_on = [google_project_service.needed]
}

locals {
  accounts = {
    worker = google_service_account.worker.member
    driver = google_service_account.driver.member
  }
}

# Objects of the one bucket: read, write, list, delete.
resource "google_storage_bucket_iam_member" "objects" {
  for_each = local.accounts

  bucket = google_storage_bucket.stores.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# Images of the one repository.
resource "google_artifact_registry_repository_iam_member" "images" {
  for_each = local.accounts

  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = each.value
}

# What a machine needs to take part in a Dataflow job.
resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

# What it takes to start and watch a job; a Flex Template's launcher runs as the worker.
resource "google_project_iam_member" "driver" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.driver.member
}

# Jobs of drivers run as the worker, and as no other account.
resource "google_service_account_iam_member" "driver_uses_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.driver.member
}

# People act as the driver, by short-lived tokens instead of keys.
resource "google_service_account_iam_member" "operators" {
  for_each           = var.operators
  service_account_id = google_service_account.driver.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

resource "google_service_account_iam_member" "kubernetes" {
  count              = var.kubernetes_account == "" ? 0 : 1
  service_account_id = google_service_account.driver.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.kubernetes_account}"
}
