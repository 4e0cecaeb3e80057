package main

// The certificates of authorities, for a system that has none, such as the container image.
import _ "golang.org/x/crypto/x509roots/fallback"
