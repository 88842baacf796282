"""Machine B: front ends over the agent core. Each renders its events and answers its approvals; none knows another."""
