// Command s3 runs versitygw over a folder, until it gets SIGTERM or the process at the other end
// of its standard input ends.
// Arguments: the port, and the folder of this engine.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	addr, folder := net.JoinHostPort("127.0.0.1", os.Args[1]), os.Args[2]
	go endWithParent(folder)
	go announce(addr)
	if err := serve(addr, folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endWithParent waits for the end of standard input: the test binary has ended, in whatever way.
// Then it removes the folder and ends the process.
func endWithParent(folder string) {
	_, _ = io.Copy(io.Discard, os.Stdin) // nothing is ever sent
	for range 5 {                        // a running request may put a file back
		_ = os.RemoveAll(folder)
	}
	os.Exit(1)
}

// announce prints READY once the server takes connections.
func announce(addr string) {
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			fmt.Println("READY")
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func serve(addr, folder string) error {
	objects, versions := filepath.Join(folder, "objects"), filepath.Join(folder, "versions")
	for _, path := range []string{objects, versions} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	// Attributes of files, which most file systems have, are replaced together with
	// their content; versitygw's other way to keep them is not atomic.
	attributes := meta.XattrMeta{}
	if err := attributes.Test(objects); err != nil {
		return err
	}
	backend, err := posix.New(objects, attributes, posix.PosixOpts{VersioningDir: versions, Concurrency: 256})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: os.Getenv("AWS_ACCESS_KEY_ID"), RootUserSecret: os.Getenv("AWS_SECRET_ACCESS_KEY"), Region: os.Getenv("AWS_REGION"),
		Ports: []string{addr}, MaxConnections: 4096, MaxRequests: 1024, MultipartMaxParts: 10_000, KeepAlive: true, Quiet: true,
	})
}
