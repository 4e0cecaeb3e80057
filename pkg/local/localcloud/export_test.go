package localcloud

// Allows reports whether an authorizer's policy allows a method.
var Allows = allows
