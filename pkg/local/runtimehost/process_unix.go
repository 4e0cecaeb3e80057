//go:build unix && !linux

package runtimehost

import "syscall"

// childAttributes keep a Ctrl-C at the terminal from the function, which is to
// finish its work. When this process dies the function ends at its next word to
// the Runtime API.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
