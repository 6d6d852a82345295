  ### ecs-netguard: installed from additional-packages/ and started by the reboot above. Proved on this
  ### machine, and then made to forget it.
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
