variable "project" {
  description = "Project that pays for buckets and jobs."
  type        = string
}

variable "region" {
  description = "Region of the bucket, the images and the jobs."
  type        = string
  default     = "us-central1"
}

variable "bucket" {
  description = "Name of the bucket of stores; unique in the world."
  type        = string
}

variable "operators" {
  description = "Who may run rounds, such as user:someone@example.org or group:lab@example.org."
  type        = set(string)
  default     = []
}

variable "kubernetes_account" {
  description = "PROJECT.svc.id.goog[NAMESPACE/NAME] of the Kubernetes service account of workers and drivers; empty without Kubernetes."
  type        = string
  default     = ""
}
