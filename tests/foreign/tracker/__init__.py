from tracker.correlation import Tracker as Tracker
