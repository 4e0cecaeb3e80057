package main

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
)

// imageUser is the user of the Dockerfile.
const imageUser = 65532

// TestImageRuns runs the program with nothing but what the image has: its own folders, another
// user, no shell, no certificates, no time zones. A container without Docker.
func TestImageRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	if os.Getuid() != 0 {
		t.Skip("changing the root folder needs root")
	}
	out, _ := made(t, target{"linux", runtime.GOARCH})
	root := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(root, os.DirFS(filepath.Join(out, "image", "folders"))); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(filepath.Join(out, "image", runtime.GOARCH, "ocelot"), filepath.Join(root, "ocelot"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"data", "tmp"} {
		if err := os.Chown(filepath.Join(root, folder), imageUser, imageUser); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("/ocelot", "dev", "--addr", "127.0.0.1:0", "--data", "/data")
	c.Env = []string{}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}, Pdeathsig: syscall.SIGKILL}
	c.Stderr = os.Stderr
	output, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	address := ""
	for address == "" && lines.Scan() {
		if match := regexp.MustCompile(`http://[^/]+/api/v1`).FindString(lines.Text()); match != "" {
			address = match
		}
	}
	answer, err := http.Get(address + "/health")
	if err != nil {
		_ = c.Process.Kill() // it may have ended
		t.Fatalf("got %v (%v), want an answer", err, c.Wait())
	}
	_ = answer.Body.Close() // only the status counts
	if answer.StatusCode != http.StatusOK {
		t.Errorf("got status %d, want %d", answer.StatusCode, http.StatusOK)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := c.Wait(); err != nil {
		t.Errorf("got %v after an interrupt, want the exit code 0", err)
	}
}
