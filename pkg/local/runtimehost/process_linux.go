package runtimehost

import "syscall"

// childAttributes keep a Ctrl-C at the terminal from the function, which is to
// finish its work, and end it with this process however that ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
