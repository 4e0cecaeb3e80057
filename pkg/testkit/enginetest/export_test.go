package enginetest

// PID returns the process id of an engine that runs.
func (e *Engine) PID() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process.cmd.Process.Pid
}
