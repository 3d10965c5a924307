package tracer

// A Feature is something of the kernel that finwait can make use of.
type Feature struct {
	Name  string
	Since string // the first kernel that has it
	State FeatureState
	Note  string // what it is used for, or why it is not there
}

// FeatureState says whether a feature is there.
type FeatureState uint8

// The states of a feature. A probe that fails for another reason than the
// feature's absence leaves it FeatureUnclear.
const (
	FeatureMissing FeatureState = iota
	FeatureInUse
	FeatureAvailable // there, but something better is in use, or nothing needs it yet
	FeatureUnclear
)
