package localcloud

// Allows is what the gateway makes of an authorizer's policy.
var Allows = allows
