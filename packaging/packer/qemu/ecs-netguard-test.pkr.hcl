# The same provisioning as ../ecs-netguard.pkr.hcl, run for real on the virtual test machine. test.sh
# makes what the variables name, and looks at what comes out.

variable "rpm" {
  type        = string
  description = "The ecs-netguard RPM."
}

variable "base_rpm" {
  type        = string
  description = "A package that provides what the RPM requires, which Debian has installed without dnf's knowledge."
}

variable "image" {
  type        = string
  description = "The test machine's root disk, raw."
}

variable "kernel" {
  type        = string
  description = "What it boots: there is no boot loader on the disk."
}

variable "initrd" {
  type        = string
  description = "The initial RAM disk."
}

variable "key" {
  type        = string
  description = "The private key that root of the test machine accepts."
}

variable "output" {
  type        = string
  description = "The directory of the baked image, which is not there yet."
}

variable "config_file" {
  type        = string
  default     = ""
  description = "As in ../ecs-netguard.pkr.hcl."
}

variable "required_guarantees" {
  type        = string
  default     = "imds-block task-credentials"
  description = "As in ../ecs-netguard.pkr.hcl."
}

locals {
  config_file = var.config_file != "" ? var.config_file : "${path.root}/../config.toml"
}

source "qemu" "test" {
  iso_url          = var.image
  iso_checksum     = "none"
  disk_image       = true
  use_backing_file = false
  skip_resize_disk = true
  format           = "raw"
  disk_interface   = "virtio"
  net_device       = "virtio-net-pci"
  accelerator      = "tcg"
  cpus             = 2
  memory           = 1536
  headless         = true
  output_directory = var.output
  vm_name          = "root.ext4"

  # What is given here replaces Packer's own option of that name.
  qemuargs = [
    ["-machine", "q35,hpet=off"],
    ["-accel", "tcg,thread=multi,tb-size=512"],
    ["-cpu", "qemu64"],
    ["-nodefaults"],
    ["-display", "none"],
    ["-object", "rng-random,id=rng,filename=/dev/urandom"],
    ["-device", "virtio-rng-pci,rng=rng"],
    ["-kernel", var.kernel],
    ["-initrd", var.initrd],
    ["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off apparmor=0 audit=0 tsc=reliable clocksource=tsc no_timer_check net.ifnames=0"],
    ["-serial", "file:${var.output}.serial"],
    # Nothing gets out of the machine, and only ssh gets in.
    ["-netdev", "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
  ]

  communicator         = "ssh"
  ssh_username         = "root"
  ssh_private_key_file = var.key
  ssh_timeout          = "10m"
  boot_wait            = "1s"
  shutdown_command     = "systemctl start --no-block poweroff.target"
  shutdown_timeout     = "5m"
}

build {
  name    = "template"
  sources = ["source.qemu.test"]

  provisioner "file" {
    source      = var.rpm
    destination = "/tmp/ecs-netguard.rpm"
  }

  provisioner "file" {
    source      = local.config_file
    destination = "/tmp/ecs-netguard.toml"
  }

  provisioner "file" {
    source      = var.base_rpm
    destination = "/tmp/base.rpm"
  }

  # The id must not be in the image.
  provisioner "shell" {
    inline = [
      "echo builder: $(cat /etc/machine-id)",
      "rpm -i --force-debian /tmp/base.rpm && rm /tmp/base.rpm",
    ]
  }

  # The same scripts, in the same order, as in ../ecs-netguard.pkr.hcl.
  provisioner "shell" {
    execute_command = "{{ .Vars }} sh {{ .Path }}"
    environment_vars = [
      "DNF_OPTIONS=--disablerepo=*",
      "REQUIRED_GUARANTEES=${var.required_guarantees}",
    ]
    scripts = [
      "${path.root}/../scripts/install.sh",
      "${path.root}/../scripts/gate.sh",
      "${path.root}/../scripts/release.sh",
      "${path.root}/../scripts/generalize.sh",
    ]
  }
}

# What amazon-ecs-ami does with an RPM in additional-packages/ and nothing else of ours: installs it, reboots,
# and cleans up while the daemon runs. The steps are those of its install-additional-packages.sh and cleanup.sh.
build {
  name    = "additional-package"
  sources = ["source.qemu.test"]

  provisioner "file" {
    source      = var.base_rpm
    destination = "/tmp/base.rpm"
  }

  provisioner "file" {
    source      = var.rpm
    destination = "/tmp/ecs-netguard.rpm"
  }

  provisioner "shell" {
    inline = [
      "rpm -i --force-debian /tmp/base.rpm",
      "dnf -y --disablerepo=* install /tmp/ecs-netguard.rpm",
    ]
  }

  provisioner "shell" {
    expect_disconnect = true
    inline            = ["systemctl start --no-block reboot.target && sleep 300"]
  }

  provisioner "shell" {
    start_retry_timeout = "10m"
    inline = [
      "echo builder: $(cat /etc/machine-id)",
      "systemctl is-active ecs-netguard.service && ecs-netguard status",
      "rm -rf /var/log/journal/*",
      "rm -rf /etc/machine-id /tmp/*.rpm /etc/ssh/ssh_host*",
      "touch /etc/machine-id",
    ]
  }
}
