// A C++ node that reads the answers of perception_node:
//   colcon build --base-paths examples/read_answers_cpp && . install/setup.bash
//   ros2 run read_answers_cpp read_answers --ros-args -r answers:=/perception/camera/detections
#include <memory>

#include <rclcpp/rclcpp.hpp>
#include <vision_msgs/msg/detection2_d_array.hpp>

class AnswerReader : public rclcpp::Node
{
public:
  AnswerReader()
  : Node("read_answers")
  {
    subscription_ = create_subscription<vision_msgs::msg::Detection2DArray>(
      "answers", rclcpp::QoS(10),
      [this](vision_msgs::msg::Detection2DArray::ConstSharedPtr message) {on_answer(*message);});
  }

private:
  // The header is that of the image: join with the image, or with other sensors, by its stamp.
  void on_answer(const vision_msgs::msg::Detection2DArray & message)
  {
    for (const auto & detection : message.detections) {
      if (detection.results.empty()) {continue;}
      const auto & best = detection.results.front().hypothesis;  // the best class is the first
      RCLCPP_INFO(
        get_logger(), "%d.%09u: %s %.2f at x %.0f", message.header.stamp.sec, message.header.stamp.nanosec,
        best.class_id.c_str(), best.score, detection.bbox.center.position.x);
    }
  }

  rclcpp::Subscription<vision_msgs::msg::Detection2DArray>::SharedPtr subscription_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<AnswerReader>());
  rclcpp::shutdown();
  return 0;
}
