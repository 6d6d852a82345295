// An example: npx cdk deploy --app "npx ts-node app.ts"

import { App, Stack } from "aws-cdk-lib";
import { Vpc } from "aws-cdk-lib/aws-ec2";
import { NetguardHosts } from "./ecs-netguard";

const stack = new Stack(new App(), "ecs-hosts");
new NetguardHosts(stack, "Hosts", {
  vpc: new Vpc(stack, "Vpc"),
  cluster: "production",
  keySha256: "0000000000000000000000000000000000000000000000000000000000000000",
  userData: "../user-data.sh",
});
