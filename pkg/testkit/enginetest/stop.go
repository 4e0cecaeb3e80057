package enginetest

// Stop stops a call once, at a point of its way, while others do something. It is made by NewStop.
type Stop struct{ reached, resume chan struct{} }

// NewStop returns a Stop for one call.
func NewStop() *Stop { return &Stop{reached: make(chan struct{}), resume: make(chan struct{})} }

// Here is the point. It returns once While lets the call continue. It must be called at most once.
func (s *Stop) Here() {
	close(s.reached)
	<-s.resume
}

// While runs call until the point, then between, then the rest of call. It reports whether call came to
// the point. It does not run between otherwise.
func (s *Stop) While(call, between func()) (stopped bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		call()
	}()
	select {
	case <-done:
		return false
	case <-s.reached:
	}
	func() {
		defer close(s.resume) // also if the test ends here
		between()
	}()
	<-done
	return true
}
