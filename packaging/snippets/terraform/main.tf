# A launch template and an auto scaling group of ECS hosts, on which no task starts before ecs-netguard has
# proved that containers cannot reach IMDS. An instance that does not get there never goes into service, and
# the instance refresh that started it is rolled back. User data is ../user-data.sh.

terraform {
  required_version = ">= 1.3"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "name" {
  type        = string
  default     = "ecs-netguard"
  description = "Of everything here."
}

variable "cluster" {
  type        = string
  description = "The name of the ECS cluster."
}

variable "subnet_ids" {
  type        = list(string)
  description = "Where instances run."
}

variable "security_group_ids" {
  type        = list(string)
  description = "Of the instances."
}

variable "instance_type" {
  type        = string
  default     = "t3.medium"
  description = "Of the instances: of the AMI's architecture."
}

variable "ami_parameter" {
  type        = string
  default     = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
  description = "The SSM parameter that names the AMI; Graviton: amazon-linux-2023/arm64. With an image of packaging/packer the package is there already."
}

variable "capacity" {
  type        = number
  default     = 3
  description = "How many instances."
}

variable "package_version" {
  type        = string
  default     = "0.2.0"
  description = "Of ecs-netguard. A new one here starts an instance refresh."
}

variable "package_source" {
  type        = string
  default     = "https://packages.example.com"
  description = "What make repo made, behind a web server (https://…) or in a bucket (s3://…)."
}

variable "key_sha256" {
  type        = string
  description = "The checksum of ecs-netguard.asc."
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.key_sha256))
    error_message = "64 hexadecimal digits: sha256sum ecs-netguard.asc."
  }
}

locals {
  hook = "${var.name}-proved"
  user_data = join("\n", [
    "#!/bin/bash",
    "export CLUSTER='${var.cluster}' VERSION='${var.package_version}'",
    "export SOURCE='${var.package_source}' KEY_SHA256='${var.key_sha256}'",
    "export AUTO_SCALING_GROUP='${var.name}' LIFECYCLE_HOOK='${local.hook}'",
    file("${path.module}/../user-data.sh"),
  ])
}

data "aws_partition" "this" {}

data "aws_ssm_parameter" "ami" {
  name = var.ami_parameter
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# For a package_source in a bucket add s3:GetObject on it.
data "aws_iam_policy_document" "host" {
  statement {
    actions   = ["autoscaling:CompleteLifecycleAction"]
    resources = ["arn:${data.aws_partition.this.partition}:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/${var.name}"]
  }
}

resource "aws_iam_role" "host" {
  name_prefix        = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "host" {
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

resource "aws_iam_role_policy_attachment" "ecs" {
  role       = aws_iam_role.host.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.host.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "host" {
  name_prefix = var.name
  role        = aws_iam_role.host.name
}

resource "aws_launch_template" "host" {
  name_prefix            = var.name
  image_id               = data.aws_ssm_parameter.ami.insecure_value
  instance_type          = var.instance_type
  vpc_security_group_ids = var.security_group_ids
  user_data              = base64encode(local.user_data)

  iam_instance_profile {
    arn = aws_iam_instance_profile.host.arn
  }

  # IMDSv2 alone, and answers that do not pass a bridge: a second fence, which awsvpc tasks and tasks on the
  # host's network do not meet.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tag_specifications {
    resource_type = "instance"
    tags = {
      Name = var.name
    }
  }
}

resource "aws_autoscaling_group" "host" {
  name                = var.name
  min_size            = 0
  max_size            = var.capacity * 2
  desired_capacity    = var.capacity
  vpc_zone_identifier = var.subnet_ids
  depends_on          = [aws_iam_role_policy.host, aws_iam_role_policy_attachment.ecs]

  launch_template {
    id      = aws_launch_template.host.id
    version = aws_launch_template.host.latest_version
  }

  # User data ends it with CONTINUE after the proof; else the instance is terminated.
  initial_lifecycle_hook {
    name                 = local.hook
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    default_result       = "ABANDON"
    heartbeat_timeout    = 900
  }

  # A new launch template replaces the instances: new ones first, a tenth, and an hour later the others.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 110
      checkpoint_percentages = [10, 100]
      checkpoint_delay       = "3600"
      skip_matching          = true
      auto_rollback          = true
    }
  }

  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }
}

output "launch_template" {
  value       = "${aws_launch_template.host.id}:${aws_launch_template.host.latest_version}"
  description = "For a group of your own."
}
