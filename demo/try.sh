# What the demo offers to try when it is over; script/demo prints the lines below.
script/demo psql -c "SELECT * FROM demo.claim('ada', 'Large', 'ada-notebook')"
script/demo psql -c "SELECT * FROM demo.presets('tomorrow 09:00')"
script/demo psql -c "UPDATE template_version_presets SET desired_instances = 5
    WHERE name = 'Small'" -c "SELECT * FROM demo.presets() WHERE preset LIKE '%Small'"
