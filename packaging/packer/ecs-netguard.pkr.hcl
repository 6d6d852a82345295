# An ECS-optimized Amazon Linux 2023 AMI with ecs-netguard in it:
#
#   packer init . && packer build -var rpm=ecs-netguard-0.2.0-1.x86_64.rpm .
#
# The lines between `# >>` and `# <<` are for Packer 1.7 or newer. scripts/check-packer.sh leaves them
# out, because Debian's Packer 1.6.6 does not know them: they are the only ones here that are never
# validated.

# >> packer 1.7
packer {
  required_version = ">= 1.7.4"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.8"
    }
  }
}
# <<

variable "rpm" {
  type        = string
  description = "The ecs-netguard RPM, of the image's architecture."
}

variable "config_file" {
  type        = string
  default     = ""
  description = "What becomes /etc/ecs-netguard/config.toml. Empty: config.toml beside this template, which blocks IMDS always."
}

variable "required_guarantees" {
  type        = string
  default     = "imds-block task-credentials"
  description = "The build fails unless these are required and held on the build machine, separated by blanks."
}

variable "dnf_options" {
  type        = string
  default     = ""
  description = "More options for dnf, such as --setopt=localpkg_gpgcheck=1 for a signed RPM."
}

variable "ami_name" {
  type        = string
  default     = "ecs-netguard"
  description = "The image's name; the architecture and the time of the build are added."
}

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Where the image is built and kept."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "Of the image: x86_64, or arm64 (Graviton)."
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture must be x86_64 or arm64."
  }
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "Of the build machine. Empty: t3.small, or t4g.small for arm64."
}

variable "source_ami_name" {
  type        = string
  default     = "al2023-ami-ecs-hvm-2023.0.*-kernel-6.1-*"
  description = "The name of the ECS-optimized AMI to start from; the newest that fits is taken. A full name pins it."
}

variable "source_ami_owner" {
  type        = string
  default     = "amazon"
  description = "Whose AMI that is: an account's number or alias."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Where the build machine runs. Empty: the default VPC."
}

variable "ssh_interface" {
  type        = string
  default     = ""
  description = "How Packer reaches it: public_ip, private_ip, session_manager … Empty: Packer decides."
}

variable "iam_instance_profile" {
  type        = string
  default     = ""
  description = "Of the build machine. Empty: none, which is best: the ECS agent then joins no cluster."
}

locals {
  stamp         = formatdate("YYYYMMDD-hhmmss", timestamp())
  instance_type = var.instance_type != "" ? var.instance_type : lookup({ x86_64 = "t3.small", arm64 = "t4g.small" }, var.architecture, "")
  config_file   = var.config_file != "" ? var.config_file : "${path.root}/config.toml"
}

source "amazon-ebs" "ecs-al2023" {
  region               = var.region
  instance_type        = local.instance_type
  subnet_id            = var.subnet_id
  iam_instance_profile = var.iam_instance_profile

  source_ami_filter {
    owners      = [var.source_ami_owner]
    most_recent = true
    filters = {
      name                = var.source_ami_name
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  ami_name        = "${var.ami_name}-${var.architecture}-${local.stamp}"
  ami_description = "ECS-optimized Amazon Linux 2023 with ecs-netguard"
  tags = {
    Name       = var.ami_name
    source_ami = "{{ .SourceAMIName }}"
  }

  # >> packer 1.7
  # IMDSv2 only, on the build machine and on every instance of the image. The one hop is the build
  # machine's: instances get two, unless their launch says otherwise.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  # <<

  ssh_username              = "ec2-user"
  ssh_interface             = var.ssh_interface
  ssh_clear_authorized_keys = true
}

build {
  sources = ["source.amazon-ebs.ecs-al2023"]

  provisioner "file" {
    source      = var.rpm
    destination = "/tmp/ecs-netguard.rpm"
  }

  provisioner "file" {
    source      = local.config_file
    destination = "/tmp/ecs-netguard.toml"
  }

  # The same scripts, in the same order, as in qemu/ecs-netguard-test.pkr.hcl.
  provisioner "shell" {
    execute_command = "sudo {{ .Vars }} sh {{ .Path }}"
    environment_vars = [
      "DNF_OPTIONS=${var.dnf_options}",
      "REQUIRED_GUARANTEES=${var.required_guarantees}",
    ]
    scripts = [
      "${path.root}/scripts/install.sh",
      "${path.root}/scripts/gate.sh",
      "${path.root}/scripts/release.sh",
      "${path.root}/scripts/generalize.sh",
    ]
  }
}
