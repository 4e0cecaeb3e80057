//go:build !unix

package runtimehost

import "syscall"

// childAttributes are those of any child: when this process dies the function
// ends at its next word to the Runtime API.
func childAttributes() *syscall.SysProcAttr { return nil }
