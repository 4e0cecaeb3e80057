package enginetest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnginesListenOnLoopbackOnly(t *testing.T) {
	for name, test := range enginesOf {
		t.Run(name, func(t *testing.T) {
			addresses := listening(t, sockets(t, test.start(t).PID()))
			if len(addresses) == 0 {
				t.Error("found no address that the engine listens on, want at least one")
			}
			for _, address := range addresses {
				if !isLoopback(address) {
					t.Errorf("listens on %s, want loopback addresses only", address)
				}
			}
		})
	}
}

// sockets returns the inodes of the sockets of a process and its children.
func sockets(t *testing.T, pid int) map[string]bool {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d", pid)
	inodes := map[string]bool{}
	descriptors, err := os.ReadDir(folder + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors {
		target, err := os.Readlink(filepath.Join(folder, "fd", d.Name()))
		if errors.Is(err, fs.ErrNotExist) { // it was closed since
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	children, err := filepath.Glob(folder + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range children {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) { // the thread ended since
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for child := range strings.FieldsSeq(string(text)) {
			var id int
			if _, err := fmt.Sscan(child, &id); err != nil {
				t.Fatal(err)
			}
			for inode := range sockets(t, id) {
				inodes[inode] = true
			}
		}
	}
	return inodes
}

// listening returns the addresses, as the kernel spells them, of the TCP sockets
// among the inodes that listen.
func listening(t *testing.T, inodes map[string]bool) []string {
	t.Helper()
	const address, state, inode, listen = 1, 3, 9, "0A" // see proc_net_tcp in the kernel's documentation
	var addresses []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if errors.Is(err, fs.ErrNotExist) { // a machine without IPv6
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > inode && f[state] == listen && inodes[f[inode]] {
				addresses = append(addresses, f[address])
			}
		}
	}
	return addresses
}

// isLoopback reports whether an address is of 127.0.0.0/8, also mapped to IPv6,
// or ::1. The kernel writes an address in words of the machine's byte order, here
// little-endian.
func isLoopback(address string) bool {
	host, _, _ := strings.Cut(address, ":")
	const mapped, six = "0000000000000000FFFF0000", "00000000000000000000000001000000"
	four := strings.TrimPrefix(host, mapped)
	return len(four) == 8 && strings.HasSuffix(four, "7F") || host == six
}
