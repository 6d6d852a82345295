// A construct for the AWS CDK: a launch template and an auto scaling group of ECS hosts, on which no task
// starts before ecs-netguard has proved that containers cannot reach IMDS. User data is user-data.sh.
//
//   new NetguardHosts(this, "Hosts", { vpc, cluster: "production", keySha256: "..." });

import { readFileSync } from "node:fs";
import { Duration, Stack } from "aws-cdk-lib";
import { AutoScalingGroup, CfnAutoScalingGroup, UpdatePolicy } from "aws-cdk-lib/aws-autoscaling";
import {
  InstanceType,
  ISecurityGroup,
  IVpc,
  LaunchTemplate,
  LaunchTemplateHttpTokens,
  UserData,
} from "aws-cdk-lib/aws-ec2";
import { EcsOptimizedImage } from "aws-cdk-lib/aws-ecs";
import { ManagedPolicy, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import { Construct } from "constructs";

export interface NetguardHostsProps {
  readonly vpc: IVpc;
  readonly securityGroup?: ISecurityGroup;
  /** The name of the ECS cluster. */
  readonly cluster: string;
  /** The checksum of ecs-netguard.asc. */
  readonly keySha256: string;
  /** What make repo made, behind a web server (https://...) or in a bucket (s3://...). */
  readonly packageSource?: string;
  readonly packageVersion?: string;
  readonly instanceType?: string;
  readonly capacity?: number;
  /** Where user-data.sh is. */
  readonly userData?: string;
}

export class NetguardHosts extends Construct {
  readonly launchTemplate: LaunchTemplate;
  readonly group: AutoScalingGroup;

  constructor(scope: Construct, id: string, props: NetguardHostsProps) {
    super(scope, id);
    // Both known beforehand: the launch template names the group, and the group the launch template.
    const name = `${Stack.of(this).stackName}-${id}`;
    const hook = `${name}-proved`;
    const capacity = props.capacity ?? 3;

    const role = new Role(this, "Role", {
      assumedBy: new ServicePrincipal("ec2.amazonaws.com"),
      managedPolicies: [
        ManagedPolicy.fromAwsManagedPolicyName("service-role/AmazonEC2ContainerServiceforEC2Role"),
        ManagedPolicy.fromAwsManagedPolicyName("AmazonSSMManagedInstanceCore"),
      ],
    });
    // For a packageSource in a bucket: bucket.grantRead(role).
    role.addToPolicy(
      new PolicyStatement({
        actions: ["autoscaling:CompleteLifecycleAction"],
        resources: [
          Stack.of(this).formatArn({
            service: "autoscaling",
            resource: "autoScalingGroup:*:autoScalingGroupName",
            resourceName: name,
          }),
        ],
      }),
    );

    const userData = UserData.custom(
      [
        "#!/bin/bash",
        `export CLUSTER='${props.cluster}' VERSION='${props.packageVersion ?? "0.2.0"}'`,
        `export SOURCE='${props.packageSource ?? "https://packages.example.com"}' KEY_SHA256='${props.keySha256}'`,
        `export AUTO_SCALING_GROUP='${name}' LIFECYCLE_HOOK='${hook}'`,
        readFileSync(props.userData ?? "user-data.sh", "utf8"),
      ].join("\n"),
    );

    this.launchTemplate = new LaunchTemplate(this, "LaunchTemplate", {
      machineImage: EcsOptimizedImage.amazonLinux2023(),
      instanceType: new InstanceType(props.instanceType ?? "t3.medium"),
      securityGroup: props.securityGroup,
      role,
      userData,
      // IMDSv2 alone, and answers that do not pass a bridge: a second fence, which awsvpc tasks and tasks on
      // the host's network do not meet.
      httpTokens: LaunchTemplateHttpTokens.REQUIRED,
      httpPutResponseHopLimit: 1,
    });

    this.group = new AutoScalingGroup(this, "Group", {
      autoScalingGroupName: name,
      vpc: props.vpc,
      launchTemplate: this.launchTemplate,
      minCapacity: 0,
      desiredCapacity: capacity,
      // A new instance is proved before an old one goes.
      maxCapacity: capacity + 1,
      updatePolicy: UpdatePolicy.rollingUpdate({
        minInstancesInService: capacity,
        maxBatchSize: 1,
        pauseTime: Duration.minutes(5),
      }),
    });
    this.group.node.addDependency(role);
    // User data ends it with CONTINUE after the proof; else the instance is terminated. Part of the group, not
    // a resource of its own, which would come after the first instances.
    const resource = this.group.node.defaultChild as CfnAutoScalingGroup;
    resource.lifecycleHookSpecificationList = [
      {
        lifecycleHookName: hook,
        lifecycleTransition: "autoscaling:EC2_INSTANCE_LAUNCHING",
        defaultResult: "ABANDON",
        heartbeatTimeout: Duration.minutes(15).toSeconds(),
      },
    ];
  }
}
