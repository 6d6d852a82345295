  ### ecs-netguard, installed from additional-packages/: configured, proved on this machine and its new
  ### kernel, and then made to forget them.
  provisioner "file" {
    source      = "ecs-netguard/config.toml"
    destination = "/tmp/ecs-netguard.toml"
  }

  provisioner "shell" {
    execute_command  = "sudo {{ .Vars }} sh {{ .Path }}"
    environment_vars = ["REQUIRED_GUARANTEES=imds-block task-credentials"]
    scripts = [
      "ecs-netguard/install.sh",
      "ecs-netguard/gate.sh",
      "ecs-netguard/release.sh"
    ]
  }
