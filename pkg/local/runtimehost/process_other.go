//go:build !unix

package runtimehost

import "syscall"

// childAttributes are the default ones. When this process dies, the function ends at its next
// request to the Runtime API.
func childAttributes() *syscall.SysProcAttr { return nil }
