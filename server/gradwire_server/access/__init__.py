"""Who calls and what they may do: tokens, tenants, roles. A leaf: any floor may use it."""
