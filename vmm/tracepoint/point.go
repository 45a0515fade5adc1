package tracepoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Point is a tracepoint of this host's kernel.
type Point struct {
	name string // "kvm/kvm_msi_set_irq"
	id   uint64
}

// roots is where tracefs is found: mounted by itself, or within debugfs.
var roots = [...]string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// Find looks a tracepoint up by its system and name, "kvm/kvm_msi_set_irq". The error matches fs.ErrNotExist where the
// kernel has none of that name or tracefs is not mounted, fs.ErrPermission where this user cannot read it.
func Find(name string) (Point, error) { return find(roots[:], name) }

func find(roots []string, name string) (Point, error) {
	var why error
	for _, root := range roots {
		text, err := os.ReadFile(root + "/events/" + name + "/id")
		if err != nil {
			if why == nil || !errors.Is(err, fs.ErrNotExist) {
				why = err
			}
			continue
		}
		id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return Point{}, fmt.Errorf("tracepoint %s: %w", name, err)
		}
		return Point{name: name, id: id}, nil
	}
	hint := "it takes root"
	if errors.Is(why, fs.ErrNotExist) {
		hint = "is tracefs mounted? mount -t tracefs tracefs " + roots[0]
	}
	return Point{}, fmt.Errorf("tracepoint %s: %w (%s)", name, why, hint)
}
