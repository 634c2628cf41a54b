output "stores" {
  description = "Where stores go: gs://BUCKET/NAME."
  value       = "gs://${google_storage_bucket.stores.name}"
}

output "worker" {
  description = "--service_account_email of jobs."
  value       = google_service_account.worker.email
}

output "driver" {
  description = "Account of drivers."
  value       = google_service_account.driver.email
}

output "repository" {
  description = "Resource name of the repository of images."
  value       = google_artifact_registry_repository.images.id
}
