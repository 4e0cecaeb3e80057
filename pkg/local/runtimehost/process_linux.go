package runtimehost

import "syscall"

// childAttributes keep a Ctrl-C at the terminal from the function, so that it can finish its
// work. The function ends when this process ends for any reason.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
