package enginetest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// TCPProxy is a proxy in front of an engine of any protocol that injects faults. It is safe
// for concurrent use.
type TCPProxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	cut    bool
	choose func(request []byte) TCPFault
	open   map[net.Conn]struct{}
}

// TCPFault is what the proxy does with data from a client. The zero TCPFault forwards the
// data.
type TCPFault struct {
	// Delay is the delay before anything else.
	Delay time.Duration
	// DropRequest cuts the connection before the engine gets the data.
	DropRequest bool
	// LoseAnswer forwards the request and cuts the connection when the engine answers. The
	// work is done, but the client does not know it.
	LoseAnswer bool
}

// NewTCPProxy returns a proxy in front of target, a host and port. It ends with the test.
func NewTCPProxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &TCPProxy{target: target, listener: listener, open: map[net.Conn]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Addr returns the host and port of the proxy.
func (p *TCPProxy) Addr() string { return p.listener.Addr().String() }

// Cut resets every connection, and every new one until Restore.
func (p *TCPProxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for conn := range p.open {
		reset(conn)
	}
}

// Restore lets connections through again after Cut.
func (p *TCPProxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Inject calls choose for all data that clients send from now on; nil ends the faults. choose
// gets the bytes of one read. They begin a request if the client waits for each answer. choose
// may be called concurrently and must not retain the bytes.
func (p *TCPProxy) Inject(choose func(request []byte) TCPFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

func (p *TCPProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed at the end of the test
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *TCPProxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.register(client) {
		return
	}
	engine, err := net.Dial("tcp", p.target)
	if err != nil {
		return // the client sees a reset, as of an engine that is down
	}
	defer p.drop(engine)
	if !p.register(engine) {
		return
	}
	link := &link{client: client, engine: engine}
	var back sync.WaitGroup
	back.Go(link.copyAnswers)
	p.copyRequests(link)
	back.Wait()
}

// register registers a connection for Cut. It returns false if the proxy is cut.
func (p *TCPProxy) register(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.open[conn] = struct{}{}
	}
	return !p.cut
}

func (p *TCPProxy) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	reset(conn)
}

func (p *TCPProxy) fault(request []byte) TCPFault {
	p.mu.Lock()
	choose := p.choose
	p.mu.Unlock()
	if choose == nil {
		return TCPFault{}
	}
	return choose(request)
}

// link is a client's connection and its connection to the engine.
type link struct {
	client, engine net.Conn

	mu   sync.Mutex
	lose bool // the next answer
}

func (p *TCPProxy) copyRequests(l *link) {
	defer l.reset()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if n > 0 {
			fault := p.fault(buffer[:n])
			time.Sleep(fault.Delay)
			if fault.DropRequest {
				return
			}
			if fault.LoseAnswer {
				l.loseNext()
			}
			if _, err := l.engine.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) copyAnswers() {
	defer l.reset()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.engine.Read(buffer)
		if n > 0 {
			if l.losing() {
				return
			}
			if _, err := l.client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) loseNext() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = true
}

func (l *link) losing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lose
}

func (l *link) reset() {
	reset(l.client)
	reset(l.engine)
}

// reset closes a connection with a TCP reset, so that buffered data is lost.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails where it is closed already
	}
	_ = conn.Close()
}
