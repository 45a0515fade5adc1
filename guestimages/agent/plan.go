package agent

// PlanPath is where init looks for its Plan in the initial RAM file system.
const PlanPath = "/init.json"

// ChannelWord is the word of the kernel command line, WORD=NAME, that names the virtio-serial port which the command comes by,
// in place of the plan's Channel.
const ChannelWord = "minivmm.channel"

// ImagePath is where a disk made of a container image holds what the image runs: a Command as JSON, mode 0644, owner 0. A
// Command without Argv says that the image names none.
const ImagePath = "/.minivmm/image.json"

// Plan is what init does, in the order of the fields. /proc, /sys and /dev are there from the start.
type Plan struct {
	Modules    []string    `json:"modules,omitempty"`    // module files in the initial RAM file system, in load order
	OnDemand   []Module    `json:"on_demand,omitempty"`  // loaded for a device that is there, or when the kernel asks for one
	Channel    string      `json:"channel,omitempty"`    // name of the virtio-serial port that the Command comes by
	HoldVM     bool        `json:"hold_vm,omitempty"`    // keep a VM of KVM open while the Command that comes by the Channel runs
	Root       *Root       `json:"root,omitempty"`       // the file tree to move to; nil: stay
	Mounts     []Mount     `json:"mounts,omitempty"`     // made in the tree of Root
	Writes     []Write     `json:"writes,omitempty"`     // made after the mounts
	Hostname   string      `json:"hostname,omitempty"`   // empty: the kernel's own
	Interfaces []Interface `json:"interfaces,omitempty"` // those of the kernel command line's ip= are added
	Command    *Command    `json:"command,omitempty"`    // run on the console when there is no Channel
}

// Module is a kernel module with all that it needs.
type Module struct {
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"` // patterns as in modules.alias: devices, and names that the kernel asks modprobe(8) for
	Files   []string `json:"files"`   // in the initial RAM file system, in load order
}

// Root is a 9p file tree, read-only below a writable layer in memory (overlayfs over tmpfs).
type Root struct {
	Tag     string `json:"tag"`     // virtio-9p mount tag
	Release string `json:"release"` // /lib/modules/Release becomes a link to
	Modules string `json:"modules"` // this folder of the tree
}

// Mount is one mount(2). The target is made if it is absent. An Optional mount may fail: the kernel lacks the file system.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	Type     string `json:"type"`
	Data     string `json:"data,omitempty"`
	Optional bool   `json:"optional,omitempty"`
}

// Write is text written to an existing file, as to a kernel setting.
type Write struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Interface is a network interface with its address; it is brought up.
type Interface struct {
	Name    string `json:"name"`              // "eth0"
	Address string `json:"address,omitempty"` // CIDR, "10.0.2.15/24"; empty: only up
	Gateway string `json:"gateway,omitempty"` // "10.0.2.2"; empty: no default route

	Nameservers []string `json:"nameservers,omitempty"`
	DHCP        bool     `json:"dhcp,omitempty"` // all of it from a server
}

// Command is a program to run. Argv[0] without a slash is looked up in the PATH of Env.
type Command struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // KEY=value
	Dir  string   `json:"dir,omitempty"` // empty: /
	// User is who runs it, as a container image's configuration says it: name or uid, with ":" and a group's name or gid
	// after it or not, looked up in /etc/passwd and /etc/group of the root file system. HOME is set to the user's home if
	// Env has none. Empty: as init itself.
	User     string    `json:"user,omitempty"`
	Shares   []Share   `json:"shares,omitempty"`
	Terminal *Terminal `json:"terminal,omitempty"` // nil: pipes
}

// Share is a writable 9p folder, mounted before the command runs.
type Share struct {
	Tag  string `json:"tag"`
	Path string `json:"path"`
}

// Terminal asks for a pseudo terminal of that size, in characters.
type Terminal struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Exit is how a command ended. Error, if set, says why it never ran.
type Exit struct {
	Status int    `json:"status"`           // exit status, 0 if Signal is set
	Signal int    `json:"signal,omitempty"` // number of the signal that ended it
	Error  string `json:"error,omitempty"`
}

// Code is the exit status that a shell reports for e: 128 and the signal's number for one ended by a signal.
func (e Exit) Code() int {
	if e.Signal != 0 {
		return 128 + e.Signal
	}
	return e.Status
}
