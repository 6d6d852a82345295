*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m comment --comment "a
b" -j RETURN
-A FORWARD -d 169.254.169.254/32 -i docker+ -j DROP
-A FORWARD -d 169.254.169.254/32 -i br-+ -j DROP
-A FORWARD -d 169.254.169.254/32 -i ecs-bridge -j DROP
-A FORWARD -d 169.254.169.254/32 -i fargate-bridge -j DROP
COMMIT
