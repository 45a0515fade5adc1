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

// report describes this machine to the user of its shell.
func report(w io.Writer) {
	var uts unix.Utsname
	var info unix.Sysinfo_t
	if unix.Uname(&uts) == nil && unix.Sysinfo(&info) == nil {
		release, _, _ := bytes.Cut(uts.Release[:], []byte{0})
		fmt.Fprintf(w, "Linux %s, %d CPUs, %d MiB of memory\n", release, runtime.NumCPU(), info.Totalram*uint64(info.Unit)>>20)
	}
	for _, name := range wholeDisks() {
		fmt.Fprintf(w, "disk %s, %s MiB%s\n", name, attribute("/sys/class/block/"+name+"/size", 2048), readOnly(name))
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
		fmt.Fprintf(w, "%s\n", strings.Join(all, " "))
	}
}

// wholeDisks lists the disks, without partitions, RAM disks and loop devices.
func wholeDisks() []string {
	devices, _ := filepath.Glob("/sys/block/*/device")
	var all []string
	for _, d := range devices {
		all = append(all, filepath.Base(filepath.Dir(d)))
	}
	return all
}

// attribute reads a number from sysfs and divides it by unit.
func attribute(file string, unit int64) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return "?"
	}
	return strconv.FormatInt(n/unit, 10)
}

func readOnly(disk string) string {
	if attribute("/sys/class/block/"+disk+"/ro", 1) == "1" {
		return ", read-only"
	}
	return ""
}
