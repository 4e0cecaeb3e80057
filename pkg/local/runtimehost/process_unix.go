//go:build unix && !linux

package runtimehost

import "syscall"

// childAttributes keep a Ctrl-C at the terminal from the function, so that it can finish its
// work. When this process dies, the function ends at its next request to the Runtime API.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
