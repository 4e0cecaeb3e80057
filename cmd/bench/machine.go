package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// describeMachine is a Markdown list of what the figures depend on. What the system does
// not report is called unknown.
func describeMachine() string {
	memory := "unknown"
	if kib, err := strconv.Atoi(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		memory = fmt.Sprintf("%d GiB", (kib+1<<19)>>20)
	}
	system := strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME"), `"`)
	return fmt.Sprintf("- Processor: %s, %d cores\n- Memory: %s\n- System: %s/%s, %s\n- Go: %s\n",
		fieldOf("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH, system, runtime.Version())
}

// fieldOf returns the value of the first line "name : value" or "name=value" of a file. It
// returns "unknown" if there is none.
func fieldOf(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return "unknown"
}

// residentMB returns the memory of a process in MB, now and at its highest.
func residentMB(pid int) (now, highest float64, err error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	read := func(name string) float64 {
		kib, parseErr := strconv.ParseFloat(strings.TrimSuffix(fieldOf(path, name), " kB"), 64)
		if parseErr != nil {
			err = fmt.Errorf("read %s of %s: %w", name, path, parseErr)
		}
		return kib * 1024 / 1e6
	}
	now, highest = read("VmRSS"), read("VmHWM")
	return now, highest, err
}
