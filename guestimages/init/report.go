package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// report describes this machine to the user of the machine's shell.
func report(w io.Writer) {
	var uts unix.Utsname
	var info unix.Sysinfo_t
	if unix.Uname(&uts) == nil && unix.Sysinfo(&info) == nil {
		release, _, _ := bytes.Cut(uts.Release[:], []byte{0})
		fmt.Fprintf(w, "Linux %s, %d CPUs, %d MiB of memory\n", release, runtime.NumCPU(), info.Totalram*uint64(info.Unit)>>20)
	}
	// List whole disks, but no partitions, RAM disks or loop devices.
	disks, _ := filepath.Glob("/sys/block/*/device")
	for _, d := range disks {
		name := filepath.Base(filepath.Dir(d))
		readOnly := ""
		if readWord("/sys/class/block/"+name+"/ro") == "1" {
			readOnly = ", read-only"
		}
		size := "?"
		if sectors, err := strconv.ParseInt(readWord("/sys/class/block/"+name+"/size"), 10, 64); err == nil {
			size = strconv.FormatInt(sectors*512>>20, 10)
		}
		fmt.Fprintf(w, "disk %s, %s MiB%s\n", name, size, readOnly)
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, _ := i.Addrs()
		all := []string{"net " + i.Name, i.HardwareAddr.String()}
		for _, a := range addresses {
			all = append(all, a.String())
		}
		fmt.Fprintln(w, strings.Join(all, " "))
	}
}

// readWord returns the content of a small file without surrounding white space. It returns "" if
// the file cannot be read.
func readWord(file string) string {
	b, _ := os.ReadFile(file)
	return strings.TrimSpace(string(b))
}
